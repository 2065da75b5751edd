#!/usr/bin/env bash
# Numbers of this machine: the executor against tokio, whole replays, instructions, memory. Nothing asserts them.
set -u
cd "$(dirname "$0")/../.."
elapse=target/release/elapse
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The program is built as make build builds it.
features=$(command -v protoc >/dev/null && echo --features containerd)
echo "machine: $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2 | xargs), $(nproc) cores, $(uname -sr)"
cargo bench --locked $features --bench executor 2>/dev/null

generator=../shared/bench/gen_trace.py
[ -f "$generator" ] || { echo "skipped: whole replays (no $generator)"; exit 0; }
flags="--cores unlimited --memory unlimited --keep-alive 600s --no-plots"
replay() { # rows, records
    rm -rf "$work/out"
    "$elapse" replay csv "$work/$1/functions.csv" "$work/$1/invocations.csv" $flags --records "$2" --out "$work/out" >/dev/null
}
for rows in 100000 200000 1000000 10000000; do python3 "$generator" "$work/$rows" -n "$rows"; done
for records in none full; do
    echo "replay csv, 1e6 rows, records $records: elapse replay csv FUNCTIONS INVOCATIONS $flags --records $records"
    for _ in 1 2 3 4 5; do
        replay 1000000 "$records"
        python3 -c "import json; r = json.load(open('$work/out/run.json')); print('  %.0f invocations per CPU second, %.2f s wall, peak %.0f MiB' % (r['invocations_per_cpu_second'], r['wall_seconds'], r['peak_rss_mb']))"
    done
done
for rows in 100000 10000000; do
    replay "$rows" none
    python3 -c "import json; print('peak memory at $rows rows: %.0f MiB' % json.load(open('$work/out/run.json'))['peak_rss_mb'])"
done
count() {
    rm -rf "$work/out"
    valgrind --tool=callgrind --callgrind-out-file="$work/cg" "$elapse" replay csv "$work/$1/functions.csv" "$work/$1/invocations.csv" \
        $flags --records none --out "$work/out" 2>&1 >/dev/null | awk '/refs/ {gsub(",", "", $NF); print $NF}'
}
echo "instructions per invocation: $((($(count 200000) - $(count 100000)) / 100000)) ((I(2e5 rows) - I(1e5 rows)) / 1e5, callgrind)"
