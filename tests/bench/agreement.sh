#!/usr/bin/env bash
# Simulated against live on this host: agreement.sh OUT [SECONDS=300] [REPEATS=3] [BACKENDS="process containerd"] [LOADS="30 60 90"]
# Calibrates each backend, then runs short functions (5 to 50 ms) live whose code takes 300 ms of processor time in a new
# container, with room for a third of them, so that most calls are cold, at shares of this host's processors (cold starts
# included). Simulates them calibrated, with constant means of the calibration, without its delays (`zero`), without any delay,
# that of the functions' own code included (`null`), and with a calibration whose cold starts are twice as long (`doubled`).
# `compare` sets each beside the live repeats: a load says something of the simulator only where the null simulator fails it.
# Nothing else should run meanwhile. ELAPSE_TEST_CONTAINERD names containerd's socket (tests/daemons.sh).
set -eu
out=$1 seconds=${2:-300} repeats=${3:-3} backends=${4:-process containerd} loads=${5:-30 60 90}
elapse=$PWD/target/release/elapse here=$PWD/tests/bench
socket=${ELAPSE_TEST_CONTAINERD:-/run/containerd/containerd.sock}
mkdir -p "$out"
cd "$out"
# What the functions' own code takes in a new container.
init=${INIT:-300ms}

scenario() { # backend, load, init, more
    cat <<S
name = "$1 at $2 %"
start = 2026-01-01T00:00:00Z
[worker]
memory = "896MiB"
cores = $(nproc)
backends = ["$1"]
[live]
worker = "agreement"
behaviour = "spin"
init = "$3"
containerd = "$socket"
[trace]
format = "csv"
path = "trace-$1-$2"
$4
S
}

# The calibration with the mean of each distribution, times $2, in its place.
means() {
    python3 - "$1" "$2" <<'P'
import re, sys
unit = {"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1.0}
def ns(text):
    number, name = re.fullmatch(r"([0-9.]+)([a-z]+)", text).groups()
    return float(number) * unit[name]
for line in open(sys.argv[1]):
    if line.startswith("empirical = "):
        seen = [ns(t) for t in re.findall(r'"([^"]+)"', line)]
        line = f'empirical = ["{sum(seen) / len(seen) / 1e6 * float(sys.argv[2]):.6f}ms"]\n'
    print(line, end="")
P
}

# The calibration with cold starts twice as long, however they were measured.
doubled() {
    python3 - "$1" <<'P'
import re, sys
wanted = False
for line in open(sys.argv[1]):
    if line.startswith("["):
        wanted = re.search(r"cold_start|first_start|pooled_start", line) is not None
    elif wanted and line.startswith("empirical = "):
        line = re.sub(r'"([0-9.]+)([a-z]+)"', lambda found: f'"{float(found[1]) * 2:.6f}{found[2]}"', line)
    print(line, end="")
P
}

# As many draws as there are live repeats: what is drawn has a spread too.
simulate() { # scenario, folder
    for nth in $(seq "$repeats"); do
        "$elapse" sim "$1" --seed "$nth" --out "$2/repeat-$nth" --force --no-plots -q >/dev/null
    done
}

# A trace at the rate at which the calibrated simulation keeps this share of the processors busy. How many calls are cold depends on
# the rate, so it is found step by step.
trace() { # backend, load
    local rate=1 folder=trace-$1-$2
    for _ in 1 2 3 4; do
        rm -rf "$folder" && python3 "$here/agreement_trace.py" "$folder" "$rate" "$seconds" "$2"
        "$elapse" sim "$1-$2.toml" --out sought --force --no-plots -q >/dev/null
        rate=$(python3 - "$rate" "$2" <<'P'
import csv, json, os, sys
held = json.load(open("sought/summary.json"))["busy_cores"]["mean"]
print(float(sys.argv[1]) * int(sys.argv[2]) / 100 * os.cpu_count() / held)
P
)
    done
    rm -rf sought
}

for backend in $backends; do
    # A host is measured when it is quiet, which it is some minutes after a build or another calibration.
    for _ in $(seq 10); do
        [ -f "$backend.toml" ] || "$elapse" calibrate --backend "$backend" --containerd "$socket" --out "$backend.toml" || sleep 60
    done
    [ -f "$backend.toml" ] || exit 3
    means "$backend.toml" 1 >"$backend-means.toml"
    means "$backend.toml" 0 >"$backend-zero.toml"
    cp "$backend-zero.toml" "$backend-null.toml"
    doubled "$backend.toml" >"$backend-doubled.toml"
    for load in $loads; do
        run=$backend-$load
        scenario "$backend" "$load" "$init" "[model]
calibration = \"$backend.toml\"" >"$run.toml"
        for side in means zero null doubled; do
            scenario "$backend" "$load" "$([ $side = null ] && echo 0s || echo "$init")" "[model]
calibration = \"$backend-$side.toml\"" >"$run-$side.toml"
        done
        [ -d "trace-$run" ] || trace "$backend" "$load"
        [ -d "$run-live/repeat-$repeats" ] || "$elapse" live "$run.toml" --out "$run-live" --repeat "$repeats" --cooldown 10s --no-plots --force
        simulate "$run.toml" "$run-calibrated"
        for side in means zero null doubled; do simulate "$run-$side.toml" "$run-$side"; done
        for side in calibrated means zero null doubled; do
            "$elapse" compare "$run-$side" "$run-live" --out "$run-$side-compared" >"$run-$side.txt" 2>&1 || true
        done
    done
done
python3 "$here/agreement.py" . "$backends" "$loads" | tee tables.md
