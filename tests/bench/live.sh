#!/usr/bin/env bash
# Live numbers of this host, each beside what it is compared with: what the worker adds to a warm call, calls per second,
# cold starts by backend, and the same scenarios simulated (with this host's calibration) and live.
# usage: tests/bench/live.sh OUT [MINUTES of each scenario, default 3]
set -eu
cd "$(dirname "$0")/../.."
out=$1
minutes=${2:-3}
elapse=target/release/elapse
mkdir -p "$out"
out=$(realpath "$out")
daemons=$(mktemp -d /tmp/elapse-bench.XXXXXX)
trap 'tests/daemons.sh down "$daemons"' EXIT
eval "$(tests/daemons.sh up "$daemons")"
sockets="--set live.containerd=$ELAPSE_TEST_CONTAINERD --set live.docker=$ELAPSE_TEST_DOCKER"
$elapse doctor --containerd "$ELAPSE_TEST_CONTAINERD" --docker "$ELAPSE_TEST_DOCKER" | tee "$out/doctor.txt"

loop() { # name, clients, invocations, more keys of the worker, think
    cat >"$out/$1.toml" <<T
name = "$1"
invocations = $3
duration = "600s"
[worker]
cores = "unlimited"
memory = "4GiB"
$4
[[function]]
name = "echo"
memory = "64MiB"
duration = "0ms"
behaviour = "echo"
load = { closed = { clients = $2, think = "$5" } }
T
}
live() { # folder, scenario, more flags
    local folder=$1 scenario=$2
    shift 2
    $elapse live "$scenario" --no-plots --force --out "$out/$folder" $sockets "$@" >/dev/null
}

echo "== warm calls, process backend, unix socket"
loop warm-1 1 20000 '' 0s
loop warm-16 16 100000 '' 0s
live warm-1 "$out/warm-1.toml" --records none
live warm-16 "$out/warm-16.toml" --records none
echo "== the same over TCP through the worker's bridge, and over the socket, in a network namespace of their own"
for clients in 1 16 64; do
    n=$((clients == 1 ? 20000 : 100000))
    loop wire-$clients $clients $n '' 0s
    for wire in unix tcp; do
        unshare --net sh -c 'ip link set lo up && exec "$@"' -- $elapse live "$out/wire-$clients.toml" --no-plots --force \
            --records none --out "$out/wire-$wire-$clients" --set "function.0.protocol=$wire" >/dev/null
    done
done
echo "== cold starts"
loop created-ahead 1 200 'keep_alive = "0s"' 300ms
live cold-created-ahead "$out/created-ahead.toml" --set 'worker.backends=["containerd"]' --set live.pooled=2
loop cold 1 200 'keep_alive = "0s"' 20ms
for backend in process containerd docker; do
    n=200
    [ $backend = docker ] && n=40
    live "cold-$backend" "$out/cold.toml" --set "worker.backends=[\"$backend\"]" --set invocations=$n
done
echo "== calibration"
$elapse calibrate --backend process --backend containerd --out "$out/host.toml" --force \
    --containerd "$ELAPSE_TEST_CONTAINERD" | tee "$out/calibration.txt"
echo "== the same scenarios in both worlds, $minutes minutes each"
for backend in process containerd; do
    flags="--set trace.to=${minutes}min --set worker.backends=[\"$backend\"]"
    live "quickstart-$backend-live" scenarios/quickstart.toml $flags
    $elapse sim scenarios/quickstart.toml --no-plots --force --out "$out/quickstart-$backend-sim" $flags \
        --set "model.calibration=$out/host.toml" >/dev/null
done
paper=../shared/traces/small/iluvatar/paper-repro
if [ -d $paper ]; then
    for behaviour in spin sleep; do
        # Spins need processors: the paper's trace at a rate that two of them can serve.
        scale=0.04 cores=2
        [ $behaviour = sleep ] && scale=1.0 cores=48
        cat >"$out/paper-$behaviour.toml" <<T
name = "paper-$behaviour"
[worker]
cores = $cores
memory = "8GiB"
timeout = "forever"
[live]
behaviour = "$behaviour"
[model]
calibration = "host.toml"
[trace]
format = "iluvatar"
path = "$PWD/$paper"
to = "${minutes}min"
rate_scale = $scale
T
        live "paper-$behaviour-live" "$out/paper-$behaviour.toml"
        $elapse sim "$out/paper-$behaviour.toml" --no-plots --force --out "$out/paper-$behaviour-sim" >/dev/null
    done
fi
python3 - "$out" <<'P'
import json, os, sys
out = sys.argv[1]
def summary(name):
    path = f"{out}/{name}/summary.json"
    return json.load(open(path)) if os.path.exists(path) else None
def run(name):
    return json.load(open(f"{out}/{name}/run.json"))
print("\n| what | p50 | p99 | |\n|---|---|---|---|")
for name, what in (("warm-1", "warm call, 1 client, us"), ("warm-16", "warm call, 16 clients, us")):
    s = summary(name)
    rate = s["completed"] / s["virtual_seconds"]
    l = s["latency_ms"]
    print(f"| {what} | {l['p50'] * 1e3:.0f} | {l['p99'] * 1e3:.0f} | {rate:,.0f} calls/s |")
for clients in (1, 16, 64):
    for wire in ("unix", "tcp"):
        s = summary(f"wire-{wire}-{clients}")
        l, rate = s["latency_ms"], s["completed"] / s["virtual_seconds"]
        over = "unix socket" if wire == "unix" else "TCP through the bridge"
        print(f"| {over}, {clients} clients, us | {l['p50'] * 1e3:.0f} | {l['p99'] * 1e3:.0f} | {rate:,.0f} calls/s |")
for b in ("process", "containerd", "created-ahead", "docker"):
    c = summary(f"cold-{b}")["cold_ms"]
    print(f"| cold start {b}, ms | {c['p50']:.1f} | {c['p99']:.1f} | n = {c['n']} |")
print("\n| scenario | | invocations | cold starts | latency p50 ms | p90 | p99 | exec p50 | queue p99 | cold p50 |\n|---|---|---|---|---|---|---|---|---|---|")
pairs = [(f"quickstart-{b}", f"quickstart on {b}") for b in ("process", "containerd")]
pairs += [(f"paper-{b}", f"Ilúvatar's paper trace, {b}, process") for b in ("spin", "sleep")]
for name, what in pairs:
    a, b = summary(f"{name}-sim"), summary(f"{name}-live")
    if not a or not b:
        continue
    row = lambda s: [s["invocations"], s["cold_starts"], s["latency_ms"]["p50"], s["latency_ms"]["p90"], s["latency_ms"]["p99"],
                     s["exec_ms"]["p50"], s["queue_ms"]["p99"], s["cold_ms"]["p50"]]
    ra, rb = row(a), row(b)
    text = lambda r: " | ".join(f"{x:,.0f}" if i < 2 else f"{x:.2f}" for i, x in enumerate(r))
    print(f"| {what} | simulated | {text(ra)} |")
    print(f"| | live | {text(rb)} |")
    off = [f"{(y / x - 1) * 100:+.1f} %" if x else "-" for x, y in zip(ra, rb)]
    print(f"| | live against simulated | {' | '.join(off)} |")
P
