#!/usr/bin/env bash
# Daemons under load, on this host: a worker that is asked for four times what it can do, and what a controller adds to an
# invocation. Minutes of real time; nothing else should run.
# usage: tests/bench/daemons.sh OUT [SECONDS of each load, default 60]
set -eu
cd "$(dirname "$0")/../.."
out=$1
seconds=${2:-60}
elapse=target/release/elapse
mkdir -p "$out"
out=$(realpath "$out")
pids=()
end() { for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done; }
trap end EXIT

start() { # name, command, configuration
    printf '%s\n' "$3" >"$out/$1.toml"
    $elapse "$2" "$out/$1.toml" >"$out/$1.log" 2>&1 &
    pids+=($!)
    for _ in $(seq 200); do $elapse status --at "unix:$out/$1.sock" >/dev/null 2>&1 && return; sleep 0.05; done
    echo "$1 did not come up: $(tail -n 3 "$out/$1.log")" >&2
    exit 1
}
# Sleeps of 20 ms on four permits: what the worker can do is known, 200 a second, and its processors are not what limits it.
start worker worker "listen = \"unix:$out/worker.sock\"
concurrent = 16
[worker]
cores = 4
memory = \"4GiB\"
queue = { limit = 4 }
[live]
worker = \"bench-$$\""

scenario() { # name, its first lines, the function's lines, rate
    printf 'name = "%s"\n%b\n[worker]\nmemory = "4GiB"\n[[function]]\nmemory = "64MiB"\n%b\nload = { poisson = "%s/s" }\n' \
        "$@" >"$out/$1.load.toml"
}
drive() { # scenario, folder, address, more flags
    $elapse live "$out/$1.load.toml" --at "$3" --no-plots --force --out "$out/$2" "${@:4}" >/dev/null
}
nap='name = "nap"\nduration = "20ms"\nbehaviour = "sleep"'
load() { # name, rate, seconds
    scenario "$1" "duration = \"$3s\"" "$nap" "$2"
    drive "$1" "$1" "$at"
}
# What it has, and the most that it ever had.
memory() { awk -v what="^$1" '$0 ~ what {print $2}' "/proc/${pids[0]}/status"; }

at=unix:$out/worker.sock
load warm-up 100 3
echo "== 80 % of capacity" && load calm 160 "$seconds"
before=$(memory VmRSS)
echo "== four times capacity" && load storm 800 "$seconds"
echo "== 64 clients, each again as soon as it is answered"
scenario flood 'duration = "600s"\ninvocations = 600000' "$nap" 50000
drive flood flood "$at" --clients 64
after=$(memory VmRSS) peak=$(memory VmHWM)
echo "== what a controller adds, closed loop of one client, echo"
start controller controller "listen = \"unix:$out/controller.sock\"
workers_from = [\"unix:$out\"]"
start member worker "listen = \"unix:$out/member.sock\"
registration = \"required\"
[worker]
cores = 4
memory = \"1GiB\"
[live]
worker = \"bench-$$-m\"
[controller]
address = \"unix:$out/controller.sock\""
scenario echo 'duration = "600s"\ninvocations = 20000' 'name = "echo"\nduration = "0ms"\nbehaviour = "echo"' 1000
for round in 1 2 3; do
    drive echo "direct-$round" "unix:$out/member.sock" --clients 1 --records none
    drive echo "through-$round" "unix:$out/controller.sock" --clients 1 --records none
done
echo "== a worker that was killed takes its containers over"
recover() { # backend, containers, more lines of [live]
    cat >"$out/recover.toml" <<T
listen = "unix:$out/recover.sock"
state = "$out/state-$1"
on_boot = "recover"
[worker]
cores = 4
memory = "64GiB"
backends = ["$1"]
keep_alive = "600s"
[live]
worker = "bench-$$-r"
$3
[[function]]
name = "echo"
memory = "16MiB"
duration = "0ms"
behaviour = "echo"
prewarm = $2
T
    python3 - "$elapse" "$out" "$1" "$2" <<'P'
import json, os, signal, socket, subprocess, sys, time
elapse, out, backend, wanted = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
place = f"{out}/recover.notify"
if os.path.exists(place):
    os.remove(place)
told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
told.bind(place)
told.settimeout(120)
def start():
    begun = time.monotonic()
    log = open(f"{out}/recover.log", "a")
    worker = subprocess.Popen([elapse, "worker", f"{out}/recover.toml"], env={**os.environ, "NOTIFY_SOCKET": place}, stderr=log)
    while b"READY=1" not in told.recv(4096):
        pass
    return worker, time.monotonic() - begun
def cached():
    status = subprocess.run([elapse, "status", "--at", f"unix:{out}/recover.sock"], capture_output=True, check=True)
    return json.loads(status.stdout)["metrics"]["containers_cached"]
worker, _ = start()
while cached() < wanted:
    time.sleep(0.2)
for _ in range(3):
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    worker, took = start()
    print(f"  {backend}: {wanted} containers, ready again after {took * 1000:.0f} ms, {cached():.0f} of them warm")
worker.send_signal(signal.SIGTERM)
sys.exit(worker.wait())
P
}
recover process 200 ''
[ -S "${ELAPSE_TEST_CONTAINERD:-}" ] && recover containerd 200 "containerd = \"$ELAPSE_TEST_CONTAINERD\""
[ -S "${ELAPSE_TEST_DOCKER:-}" ] && recover docker 200 "docker = \"$ELAPSE_TEST_DOCKER\""
python3 - "$out" "$before" "$after" "$peak" <<'P'
import csv, json, statistics, sys
out, before, after, peak = sys.argv[1], *map(int, sys.argv[2:])
def run(name):
    good, refused, other, latencies, arrivals = 0, 0, {}, [], []
    for row in csv.DictReader(open(f"{out}/{name}/records.csv")):
        arrivals.append(float(row["arrival_unix_ns"]))
        if row["status"] == "completed":
            good += 1
            latencies.append(float(row["return_ns"]) / 1e6)
        elif row["status"] == "dropped":
            refused += 1
        else:
            other[row["status"]] = other.get(row["status"], 0) + 1
    latencies.sort()
    at = lambda q: latencies[int(q * (len(latencies) - 1))]
    return good / (max(arrivals) - min(arrivals)) * 1e9, refused, other, at(0.5), at(0.99)
calm, storm, flood = run("calm"), run("storm"), run("flood")
capacity = 4 / 0.020
all = (calm, storm, flood)
row = lambda what, cells: print(f"| {what} | " + " | ".join(cells) + " |")
row("", ("at 80 %", "at 400 %", "64 clients"))
row("---", ["---"] * 3)
row(f"completed per second (capacity {capacity:.0f})", [f"{r[0]:.0f}" for r in all])
row("refused (429, 503)", [str(r[1]) for r in all])
row("anything else", [str(r[2] or 0) for r in all])
row("latency of the completed p50 / p99, ms", [f"{r[3]:.1f} / {r[4]:.1f}" for r in all])
print(f"\nThe worker's memory was {before / 1024:.1f} MB after the first load, {after / 1024:.1f} MB at the end and at most {peak / 1024:.1f} MB.")
p50 = lambda name: json.load(open(f"{out}/{name}/summary.json"))["latency_ms"]["p50"] * 1e3
direct = [p50(f"direct-{i}") for i in (1, 2, 3)]
through = [p50(f"through-{i}") for i in (1, 2, 3)]
print(f"\nAn echo takes {statistics.median(direct):.0f} us on the worker and {statistics.median(through):.0f} us through the controller (p50, medians of "
      f"three): the controller adds {statistics.median(through) - statistics.median(direct):.0f} us.")
P
