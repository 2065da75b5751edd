#!/usr/bin/env bash
# Numbers of this machine: the executor against tokio, whole replays, instructions, memory. Nothing asserts them.
set -u
cd "$(dirname "$0")/../.."
elapse=target/release/elapse
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The program is built as make build builds it.
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
rm -rf "$work/out" "$work/pictures"
"$elapse" replay csv "$work/10000000/functions.csv" "$work/10000000/invocations.csv" ${flags% --no-plots} --records full --out "$work/out" >/dev/null
echo "plots of a run of 1e7 records: elapse plot RUN --out PICTURES"
python3 - "$elapse" "$work" <<'P'
import os, resource, subprocess, sys, time
elapse, work = sys.argv[1:]
begun = time.monotonic()
subprocess.run([elapse, "plot", f"{work}/out", "--out", f"{work}/pictures"], check=True, stdout=subprocess.DEVNULL)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
page = os.path.getsize(f"{work}/out/report.html") / 1e6
print(f"  {time.monotonic() - begun:.2f} s, peak {peak:.0f} MiB; the run's page has {page:.2f} MB")
P
count() {
    rm -rf "$work/out"
    valgrind --tool=callgrind --callgrind-out-file="$work/cg" "$elapse" replay csv "$work/$1/functions.csv" "$work/$1/invocations.csv" \
        $flags --records none --out "$work/out" 2>&1 >/dev/null | awk '/refs/ {gsub(",", "", $NF); print $NF}'
}
# The same load on the simulated backend in real time, with points going to a carbon that takes them and without.
cat >"$work/emit.toml" <<'T'
name = "emit"
invocations = 30000
duration = "600s"
[worker]
memory = "4GiB"
cores = "unlimited"
backends = ["simulated"]
[live]
worker = "bench-emit"
[model]
cold_start = "5ms"
[[function]]
name = "f"
memory = "64MiB"
duration = "1ms"
load = { constant = "7000/s" }
T
python3 - "$work/port" <<'P' &
import socket, sys, threading
listener = socket.create_server(("127.0.0.1", 0))
open(sys.argv[1], "w").write(str(listener.getsockname()[1]))
def drain(peer):
    while peer.recv(65536):
        pass
while True:
    threading.Thread(target=drain, args=(listener.accept()[0],), daemon=True).start()
P
carbon=$!
trap 'kill $carbon; rm -rf "$work"' EXIT
while [ ! -s "$work/port" ]; do sleep 0.1; done
emitted() { # more flags
    valgrind --tool=callgrind --callgrind-out-file="$work/cg" "$elapse" live "$work/emit.toml" --records none --no-plots --force \
        --out "$work/emit" "$@" 2>&1 >/dev/null | awk '/refs/ {gsub(",", "", $NF); print $NF}'
}
without=$(emitted) with=$(emitted --set "graphite.carbon=127.0.0.1:$(cat "$work/port")")
python3 -c "print(f'points to Graphite: {($with / $without - 1) * 100:+.2f} % instructions of a live run of 30,000 warm invocations, 7,000 a second or as many as callgrind lets through ($without -> $with, callgrind)')"
echo "instructions per invocation: $((($(count 200000) - $(count 100000)) / 100000)) ((I(2e5 rows) - I(1e5 rows)) / 1e5, callgrind)"
