#!/usr/bin/env bash
# Requests that nobody would think of, made by schemathesis from the OpenAPI description that each daemon serves: no answer may
# be one that is not described, and no daemon may fall. Opt-in (make fuzz): it comes from PyPI.
# usage: tests/fuzz.sh [EXAMPLES of each operation, default 200]
set -eu
cd "$(dirname "$0")/.."
examples=${1:-200}
elapse=$PWD/target/release/elapse
venv=$PWD/target/fuzz-venv
[ -x "$venv/bin/schemathesis" ] || { python3 -m venv "$venv" && "$venv/bin/pip" install -q 'schemathesis>=4,<5'; }
dir=$(mktemp -d /tmp/elapse-fuzz.XXXXXX)
pids=()
end() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done
    rm -rf "$dir"
}
trap end EXIT
read -r first second < <(python3 -c 'import socket
s = [socket.socket() for _ in range(2)]
[x.bind(("127.0.0.1", 0)) for x in s]
print(*[x.getsockname()[1] for x in s])')
# A key for each role; what is sent with one is to do nothing that another is needed for.
roles=(invoke register read join operate)
token() { printf '%s-%s-0123456789' "$1" "$$"; }
for role in "${roles[@]}"; do echo "$role $(printf %s "$(token "$role")" | sha256sum | cut -d' ' -f1) $role"; done >"$dir/keys"
chmod 600 "$dir/keys"
token operate >"$dir/operate"
chmod 600 "$dir/operate"
cat >"$dir/controller.toml" <<T
listen = "127.0.0.1:$first"
token_file = "$dir/keys"
worker_token_file = "$dir/operate"
body_limit = "1MiB"
state = "$dir/controller"
T
cat >"$dir/worker.toml" <<T
listen = "127.0.0.1:$second"
token_file = "$dir/keys"
body_limit = "1MiB"
state = "$dir/worker"
registration = "required"
[worker]
memory = "1GiB"
cores = 2
[live]
worker = "fuzz-$$"
[controller]
address = "127.0.0.1:$first"
token_file = "$dir/operate"
[[function]]
name = "echo"
memory = "64MiB"
duration = "0ms"
behaviour = "echo"
T
for daemon in controller worker; do
    "$elapse" $daemon "$dir/$daemon.toml" >"$dir/$daemon.log" 2>&1 &
    pids+=($!)
    sleep 1
done
failed=0
for port in "$first" "$second"; do
    url=http://127.0.0.1:$port
    for role in "${roles[@]}"; do
        # What a function answers is its own: with elapse-fail a 500 is what was asked for, and only then. Headers that nobody knows
        # are no fault.
        for which in "--exclude-path-regex (invoke|function/) --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance" \
            "--include-path-regex (invoke|function/) --checks status_code_conformance" \
            "--include-path-regex (invoke|function/) --header elapse-fail:0 --header elapse-duration-ns:0 --checks not_a_server_error"; do
            # shellcheck disable=SC2086
            (cd "$dir" && exec "$venv/bin/schemathesis" run "$url/v1/openapi.json" --url "$url" --exclude-path /v1/drain -n "$examples" \
                --header "authorization: Bearer $(token "$role")" --continue-on-failure $which) || failed=1
        done
    done
done
for i in 0 1; do kill -0 "${pids[$i]}" || { echo "a daemon fell: $(tail -n 5 "$dir"/*.log)"; failed=1; }; done
grep -h panicked "$dir"/*.log && failed=1
# Whoever was let in for a role has it, or all of them.
crossed=$(grep -h 'elapse::audit.*let in' "$dir"/*.log | grep -v 'who=operate' | awk '{
    who = role = ""
    for (i = 1; i <= NF; i++) { split($i, pair, "="); gsub(/"/, "", pair[2]); if (pair[1] == "who") who = pair[2]; if (pair[1] == "role") role = pair[2] }
    if (who != role) print
}' | tee /dev/stderr | wc -l)
[ "$crossed" = 0 ] || { echo "$crossed requests were let in for another role"; failed=1; }
echo "let in by the audit log: $(grep -hc 'elapse::audit.*let in' "$dir"/*.log | paste -sd+ | bc), refused: $(grep -hc 'elapse::audit.*refused' "$dir"/*.log | paste -sd+ | bc)"
exit $failed
