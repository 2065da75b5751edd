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

load() { # folder, rate, seconds, address, more flags
    cat >"$out/$1.load.toml" <<T
name = "$1"
duration = "$3s"
[worker]
memory = "4GiB"
[[function]]
name = "nap"
memory = "64MiB"
duration = "20ms"
behaviour = "sleep"
load = { poisson = "$2/s" }
T
    $elapse live "$out/$1.load.toml" --at "$4" --no-plots --force --out "$out/$1" "${@:5}" >/dev/null
}
rss() { awk '/^VmRSS/ {print $2}' "/proc/${pids[0]}/status"; }

at=unix:$out/worker.sock
load warm-up 100 3 "$at"
echo "== 80 % of capacity" && load calm 160 "$seconds" "$at"
before=$(rss)
echo "== four times capacity" && load storm 800 "$seconds" "$at"
after=$(rss)
echo "== what a controller adds, closed loop of one client, echo"
start controller controller "listen = \"unix:$out/controller.sock\""
start member worker "listen = \"unix:$out/member.sock\"
registration = \"required\"
[worker]
cores = 4
memory = \"1GiB\"
[live]
worker = \"bench-$$-m\"
[controller]
address = \"unix:$out/controller.sock\""
echo_load() { # folder, address
    cat >"$out/$1.load.toml" <<T
name = "$1"
duration = "600s"
invocations = 20000
[worker]
memory = "1GiB"
[[function]]
name = "echo"
memory = "64MiB"
duration = "0ms"
behaviour = "echo"
load = { poisson = "1000/s" }
T
    $elapse live "$out/$1.load.toml" --at "$2" --clients 1 --no-plots --force --out "$out/$1" --records none >/dev/null
}
for round in 1 2 3; do
    echo_load "direct-$round" "unix:$out/member.sock"
    echo_load "through-$round" "unix:$out/controller.sock"
done
python3 - "$out" "$before" "$after" "$seconds" <<'P'
import csv, json, statistics, sys
out, before, after, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
def run(name):
    good, refused, other, latencies = 0, 0, {}, []
    for row in csv.DictReader(open(f"{out}/{name}/records.csv")):
        if row["status"] == "completed":
            good += 1
            latencies.append(float(row["return_ns"]) / 1e6)
        elif row["status"] == "dropped":
            refused += 1
        else:
            other[row["status"]] = other.get(row["status"], 0) + 1
    latencies.sort()
    at = lambda q: latencies[int(q * (len(latencies) - 1))]
    return good, refused, other, at(0.5), at(0.99)
calm, storm = run("calm"), run("storm")
capacity = 4 / 0.020
print("\n| | at 80 % | at 400 % |\n|---|---|---|")
print(f"| completed per second (capacity {capacity:.0f}) | {calm[0] / seconds:.0f} | {storm[0] / seconds:.0f} ({storm[0] / seconds / capacity:.0%} of capacity) |")
print(f"| refused (429, 503) | {calm[1]} | {storm[1]} |\n| anything else | {calm[2] or 0} | {storm[2] or 0} |")
print(f"| latency of the completed p50 / p99, ms | {calm[3]:.1f} / {calm[4]:.1f} | {storm[3]:.1f} / {storm[4]:.1f} ({storm[4] / calm[4]:.2f} times) |")
print(f"| the worker's memory before and after, MB | | {before / 1024:.1f} / {after / 1024:.1f} |")
p50 = lambda name: json.load(open(f"{out}/{name}/summary.json"))["latency_ms"]["p50"] * 1e3
direct = [p50(f"direct-{i}") for i in (1, 2, 3)]
through = [p50(f"through-{i}") for i in (1, 2, 3)]
print(f"\nAn echo takes {statistics.median(direct):.0f} us on the worker and {statistics.median(through):.0f} us through the controller (p50, medians of "
      f"three): the controller adds {statistics.median(through) - statistics.median(direct):.0f} us.")
P
