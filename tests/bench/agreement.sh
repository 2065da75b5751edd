#!/usr/bin/env bash
# Simulated against live on this host: agreement.sh OUT [SECONDS=600] [REPEATS=5] [BACKENDS="process containerd"] [LOADS="30 60 90"]
# Calibrates each backend (with other functions and durations than the loads have), runs 20-function traces at shares of
# this host's processors live, simulates them calibrated, with constant means of the calibration and with no delays, and
# compares each with the live repeats; so is a calibration whose cold starts are twice as long, which `compare` has to find out.
# Nothing else should run meanwhile. ELAPSE_TEST_CONTAINERD names containerd's socket (tests/daemons.sh).
set -eu
out=$1 seconds=${2:-600} repeats=${3:-5} backends=${4:-process containerd} loads=${5:-30 60 90}
elapse=$PWD/target/release/elapse here=$PWD/tests/bench
socket=${ELAPSE_TEST_CONTAINERD:-/run/containerd/containerd.sock}
mkdir -p "$out"
cd "$out"

# Invocations per second that keep this share of the processors busy: the generator's mean duration, measured on its own.
rate() {
    rm -rf probe && "$elapse" trace generate csv probe --functions 20 --invocations 20000 --rate 10 --seed "$2" >/dev/null
    python3 - "$1" <<'P'
import csv, os, sys
warm = {r["name"]: r["warm_ms"] for r in csv.DictReader(open("probe/functions.csv"))}
spans = [float(r["duration_ms"] or warm[r["function"]]) for r in csv.DictReader(open("probe/invocations.csv"))]
print(round(int(sys.argv[1]) / 100 * os.cpu_count() / (sum(spans) / len(spans) / 1000), 3))
P
}

scenario() {
    cat <<S
name = "$1 at $2 %"
start = 2026-01-01T00:00:00Z
[worker]
memory = "16GiB"
cores = $(nproc)
backends = ["$1"]
keep_alive = "8s"
[live]
worker = "agreement"
behaviour = "spin"
containerd = "$socket"
[trace]
format = "csv"
path = "trace-$2"
$3
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
        "$elapse" sim "$1" --seed "$nth" --out "$2/repeat-$nth" --force --no-plots >/dev/null
    done
}

for load in $loads; do
    per_second=$(rate "$load" "$load")
    rm -rf "trace-$load"
    "$elapse" trace generate csv "trace-$load" --functions 20 --rate "$per_second" --seed "$load" \
        --invocations "$(python3 -c "print(int($per_second * $seconds))")" >/dev/null
done
rm -rf probe
for backend in $backends; do
    # A host is measured when it is quiet, which it is some minutes after a build or another calibration.
    for _ in $(seq 10); do
        [ -f "$backend.toml" ] || "$elapse" calibrate --backend "$backend" --containerd "$socket" --out "$backend.toml" || sleep 60
    done
    [ -f "$backend.toml" ] || exit 3
    for load in $loads; do
        run=$backend-$load
        scenario "$backend" "$load" "[model]
calibration = \"$backend.toml\"" >"$run.toml"
        means "$backend.toml" 1 >"$backend-means.toml"
        means "$backend.toml" 0 >"$backend-zero.toml"
        doubled "$backend.toml" >"$backend-doubled.toml"
        for side in means zero doubled; do
            scenario "$backend" "$load" "[model]
calibration = \"$backend-$side.toml\"" >"$run-$side.toml"
        done
        [ -d "$run-live/repeat-$repeats" ] || "$elapse" live "$run.toml" --out "$run-live" --repeat "$repeats" --cooldown 10s --no-plots --force
        simulate "$run.toml" "$run-calibrated"
        for side in means zero doubled; do simulate "$run-$side.toml" "$run-$side"; done
        for side in calibrated means zero doubled; do
            "$elapse" compare "$run-$side" "$run-live" --out "$run-$side-compared" >"$run-$side.txt" 2>&1 || true
        done
    done
done
python3 "$here/agreement.py" . "$backends" "$loads" | tee tables.md
