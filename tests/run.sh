#!/usr/bin/env bash
# Runs the lints and every test, and ends with one line that counts them: N passed, N failed, N skipped.
set -u
cd "$(dirname "$0")/.."
mkdir -p target
log=target/test.log
export ELAPSE_SKIPS=$PWD/target/skips.txt
: >"$log"
: >"$ELAPSE_SKIPS"
failed_steps=0

# All that there is.
features="--features containerd,whole"
# Daemons of the tests' own; a socket's path is short, so not below this folder.
daemons=$(mktemp -d /tmp/elapse-tests.XXXXXX)
build=
trap '[ -z "$build" ] || kill "$build"; tests/daemons.sh down "$daemons"' EXIT
eval "$(tests/daemons.sh up "$daemons")"

step() {
    echo "== $*" | tee -a "$log"
    local from=$(($(wc -l <"$log") + 1))
    "$@" >>"$log" 2>&1 || { failed_steps=$((failed_steps + 1)); echo "FAILED: $*"; tell "$from"; }
}

# What failed in the log from a line on: each failed test with what it printed, or the last lines where no test is named.
tell() {
    tail -n +"$1" "$log" | awk '/^failures:$/ {inside = !seen; seen = 1} /^test result:/ {inside = seen = 0} inside' | cut -c1-600 >"$log.failures"
    if [ -s "$log.failures" ]; then head -n 300 "$log.failures"; else tail -n 60 "$log" | cut -c1-600; fi
    tail -n +"$1" "$log" | grep -E '^test .*FAILED$|^error: (test failed|could not)' | sort -u
    rm -f "$log.failures"
}

# Beside the lints and the tests' own build: for minutes this one has work for one processor only.
make -s build attempts >target/build.log 2>&1 &
build=$!

# Told now and not at the end: the example's lock file follows every change of ours.
step cargo fetch -q --locked --manifest-path examples/my_policy/Cargo.toml
command -v rustfmt >/dev/null && step cargo fmt --all --check
cargo clippy --version >/dev/null 2>&1 && step cargo clippy --workspace --all-targets $features --locked -- -D warnings
# The program that only simulates.
cargo clippy --version >/dev/null 2>&1 && step cargo clippy --locked -p elapse-cli -- -D warnings
step env RUSTDOCFLAGS="-D warnings" cargo doc -q --workspace --no-deps $features --locked
step cargo test --workspace $features --locked --no-run
wait "$build" || { build=; tail -n 60 target/build.log; echo "FAILED: make build attempts"; exit 1; }
build=
step cargo test --workspace $features --locked --no-fail-fast
# The executor's tests once more under valgrind: its unsafe blocks, looked at from outside.
if command -v valgrind >/dev/null; then
    binary=$(cargo test --workspace $features --locked --test rt --no-run 2>&1 | grep -oE 'target/debug/deps/rt-[0-9a-f]+')
    step valgrind -q --leak-check=no --error-exitcode=9 "$binary" sim:: --skip ten_million
fi
# A policy from outside is a crate of its own; what it depends on is built already.
step cargo test --locked --manifest-path examples/my_policy/Cargo.toml --target-dir target

passed=$(grep -oE '^test result: .* ([0-9]+) passed' "$log" | grep -oE '[0-9]+ passed' | awk '{n += $1} END {print n + 0}')
failed=$(grep -oE '^test result: .* ([0-9]+) failed' "$log" | grep -oE '[0-9]+ failed' | awk '{n += $1} END {print n + 0}')
skipped=$(sort -u "$ELAPSE_SKIPS" | grep -c . || true)
[ "$failed" -gt 0 ] || failed=$failed_steps
passed=$((passed - skipped))
sed 's/^/skipped: /' "$ELAPSE_SKIPS" | sort -u
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$failed_steps" = 0 ] && [ "$passed" -gt 0 ]
