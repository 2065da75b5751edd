#!/usr/bin/env bash
# The units under a real systemd, in a container of its own with a containerd and a docker that systemd runs: start, readiness,
# stop, restart, crash, a wrong configuration, the watchdog, registration that fails; on each backend kill, recover and clean.
# Opt-in (make test-systemd): the first time it makes a Debian tree, which is kept.
# With --here the checks are made under the systemd that runs this machine, for `make test-vm`: what is installed is there already.
# Needs root. Prints a line for each check and ends with: N passed, N failed.
set -u
cd "$(dirname "$0")/.."
tree=$PWD/target/systemd-tree
[ "$(id -u)" = 0 ] || { echo "make test-systemd needs root"; exit 3; }
here=
[ "${1:-}" = --here ] && { here=1 tree=; }
[ -n "$here" ] || { command -v systemd-nspawn && command -v debootstrap; } >/dev/null || tests/install.sh systemd-container debootstrap
if [ -z "$here" ] && [ ! -x "$tree/usr/sbin/dockerd" ]; then
    rm -rf "$tree"
    mirror=$(apt-get indextargets --format '$(SITE)' 'Identifier: Packages' 'Codename: bookworm' 'Label: Debian' | head -1)
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,containerd,runc,docker.io,iptables bookworm "$tree" "$mirror" >"$tree.log" 2>&1 ||
        { echo "no Debian tree could be made: see $tree.log"; rm -rf "$tree"; exit 3; }
fi
passed=0 failed=0 leader= nspawn= said=${tree:-/tmp/elapse-systemd}.said
end() {
    [ -n "$here" ] && return
    [ -n "$leader" ] && nsenter -t "$leader" -a systemctl poweroff >/dev/null 2>&1
    for _ in $(seq 100); do kill -0 "$nspawn" 2>/dev/null || break; sleep 0.1; done
    [ -n "$nspawn" ] && kill -9 "$nspawn" 2>/dev/null
    # What a systemd that is not the host's own has left there, empty.
    [ -d /run/systemd/system ] ||
        rmdir /sys/fs/cgroup/*/elapse.slice /sys/fs/cgroup/{unified,systemd}/{payload/init.scope,payload,supervisor} 2>/dev/null
    return 0
}
trap end EXIT
in_tree() { if [ -n "$here" ]; then "$@"; else chroot "$tree" "$@"; fi; }

if [ -n "$here" ]; then systemd-sysusers elapse.conf; systemctl daemon-reload; else
make -s install DESTDIR="$tree" PREFIX=/usr/local >/dev/null || exit 1
in_tree systemd-sysusers elapse.conf
fi
mkdir -p "$tree/etc/elapse"
[ -n "$here" ] || ln -sf /dev/null "$tree/etc/systemd/system/console-getty.service"
[ -n "$here" ] || ln -sf /dev/null "$tree/etc/systemd/system/systemd-logind.service"
cat >"$tree/etc/elapse/one.toml" <<'X'
listen = "unix:/run/elapse/one.sock"
state = "/var/lib/elapse/one"
on_boot = "recover"
[worker]
memory = "1GiB"
backends = ["process"]
[live]
worker = "one"
[[function]]
name = "echo"
memory = "64MiB"
duration = "1s"
behaviour = "echo"
X
# The controller is another user, which the worker's socket lets in as one of the group: for more it has a token, over loopback.
printf 0123456789abcdef0123456789abcdef >"$tree/etc/elapse/workers"
in_tree chgrp elapse /etc/elapse/workers
chmod 640 "$tree/etc/elapse/workers"
sed 's/one/two/g; s|unix:/run/elapse/two.sock|127.0.0.1:8480|; 1i registration = "required"\ntoken_file = "/etc/elapse/workers"' "$tree/etc/elapse/one.toml" >"$tree/etc/elapse/two.toml"
printf '[controller]\naddress = "unix:/run/elapse-controller/desk.sock"\nattempts = 1\n' >>"$tree/etc/elapse/two.toml"
printf 'worker_token_file = "/etc/elapse/workers"\nlisten = "unix:/run/elapse-controller/desk.sock"\nstate = "/var/lib/elapse-controller/desk"\n' >"$tree/etc/elapse/desk.toml"
printf 'lisen = "x"\n' >"$tree/etc/elapse/wrong.toml"
for backend in process containerd docker; do
    sed "s/one/on-$backend/g; s/\"process\"/\"$backend\"/" "$tree/etc/elapse/one.toml" >"$tree/etc/elapse/on-$backend.toml"
done
# A docker whose containers are scopes of systemd; the usual tests have one that makes cgroups itself.
mkdir -p "$tree/etc/docker"
printf '{"exec-opts": ["native.cgroupdriver=systemd"], "bridge": "none", "iptables": false, "ip6tables": false, "ip-masq": false, "ip-forward": false}\n' \
    >"$tree/etc/docker/daemon.json"

enter=env
if [ -z "$here" ]; then
# What runs containers inside needs the capabilities and calls that a container has not got otherwise.
SYSTEMD_SECCOMP=0 SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes setsid systemd-nspawn -q -D "$tree" --boot --register=no --keep-unit \
    --private-network --capability=all --console=pipe -M "elapse-test-$$" systemd.unit=multi-user.target </dev/null >"$tree.boot.log" 2>&1 &
nspawn=$!
for _ in $(seq 300); do
    leader=$(pgrep -P "$nspawn" | head -1)
    [ -n "$leader" ] && case "$(nsenter -t "$leader" -a systemctl is-system-running 2>/dev/null)" in running | degraded) break ;; esac
    sleep 0.1
done
[ -n "$leader" ] || { echo "systemd did not boot: see $tree.boot.log"; exit 3; }
enter="nsenter -t $leader -a"
fi

inside() { $enter "$@"; }
# A container of systemd-nspawn may not write to cgroups of version 1, which whoever runs containers must.
[ -n "$here" ] || inside sh -c "awk '\$3 ~ /^cgroup/ {print \$2}' /proc/mounts | while read -r at; do mount -o remount,bind,rw \"\$at\"; done"
unit() { inside systemctl show -p "$2" --value "$1"; }
check() { # what, a command that must succeed
    local what=$1
    shift
    if "$@" >"$said" 2>&1; then passed=$((passed + 1)); echo "ok: $what"; else
        failed=$((failed + 1))
        echo "FAILED: $what"
        sed 's/^/    it said: /' "$said"
        inside journalctl -n 20 --no-pager -o cat 2>/dev/null | sed 's/^/    /'
    fi
}
soon() { # a command that must succeed within 20 s
    for _ in $(seq 200); do "$@" >/dev/null 2>&1 && return 0; sleep 0.1; done
    return 1
}
is() { [ "$(unit "$1" "$2")" = "$3" ]; }
invoke() { inside elapse invoke echo --body hello --at "unix:/run/elapse/$1.sock" | tee /dev/stderr | grep -qx hello; }
# Processes in the slice of all containers.
containers() { inside sh -c 'find /sys/fs/cgroup/memory/elapse.slice /sys/fs/cgroup/elapse.slice -name cgroup.procs -exec cat {} + 2>/dev/null' | wc -l; }
is_empty() { test -z "$("$@")"; }
journal_has() { inside journalctl -u "$1" -o cat --no-pager | grep -q "$2"; }
started_again() { [ "$(unit "$1" NRestarts)" -gt "$2" ] && is "$1" ActiveState active; }
worker=elapse-worker@one.service

check "the units are understood" sh -c "! $enter systemd-analyze verify $worker elapse-controller@desk.service 2>&1 | grep -i elapse"
check "start returns when it serves" inside systemctl start "$worker"
check "it is active" is "$worker" ActiveState active
check "a function answers" invoke one
as() { inside setpriv --reuid=nobody --regid="$1" --clear-groups elapse "${@:2}" --at unix:/run/elapse/one.sock; }
check "who is in the group may call it" sh -c "$enter setpriv --reuid=nobody --regid=elapse --clear-groups elapse invoke echo --body hello --at unix:/run/elapse/one.sock | grep -qx hello"
said_no() { ! "$@"; }
check "and not list it" said_no as elapse list
check "nor may others call it" said_no as nogroup invoke echo
check "restart comes back serving" inside systemctl restart "$worker"
check "a function answers again" invoke one
same=$(unit "$worker" MainPID)
printf '[[function]]\nname = "later"\nmemory = "64MiB"\nduration = "1s"\nbehaviour = "echo"\n' >>"$tree/etc/elapse/one.toml"
check "reload returns when it is done" inside systemctl reload "$worker"
check "and the configuration's new function is there" soon sh -c "$enter elapse list --at unix:/run/elapse/one.sock | grep -q later"
check "in the same process" is "$worker" MainPID "$same"
first=$(unit "$worker" MainPID)
inside systemctl kill --kill-whom=main -s KILL "$worker"
check "killed, it is started again by itself" soon sh -c "[ \"\$($enter systemctl show -p MainPID --value $worker)\" != $first ] && $enter systemctl is-active -q $worker"
check "and takes its containers over" soon sh -c "$enter journalctl -u $worker -o cat --no-pager | grep -q 'taken over'"
check "a function answers once more" invoke one
before=$(unit "$worker" NRestarts)
inside systemctl kill --kill-whom=main -s STOP "$worker"
check "frozen, the watchdog starts it again" sh -c "for i in \$(seq 60); do [ \$($enter systemctl show -p NRestarts --value $worker) -gt $before ] && exit 0; sleep 1; done; exit 1"
check "it serves after that" soon invoke one
check "stop drains it" inside systemctl stop "$worker"
check "with success" is "$worker" Result success
check "and leaves no container" test "$(containers)" = 0
inside systemctl start elapse-worker@wrong.service >/dev/null 2>&1
check "a wrong configuration is not tried again" is elapse-worker@wrong.service ExecMainStatus 2
check "and stays failed" is elapse-worker@wrong.service ActiveState failed
inside systemctl start elapse-worker@two.service >/dev/null 2>&1
check "a registration that fails ends the worker with 5" is elapse-worker@two.service ExecMainStatus 5
check "the controller starts" inside systemctl start elapse-controller@desk.service
check "the worker, tried again, registers" soon is elapse-worker@two.service ActiveState active
printf 'name = "echo"\nmemory = "64MiB"\nduration = "1s"\nbehaviour = "echo"\n' >"$tree/etc/elapse/echo-function.toml"
desk=unix:/run/elapse-controller/desk.sock
check "a function is registered with the controller" inside elapse register /etc/elapse/echo-function.toml --at "$desk"
check "and answers through it" sh -c "$enter elapse invoke echo --body hello --at $desk | tee /dev/stderr | grep -qx hello"
check "a controller that was started again knows it" sh -c "$enter systemctl restart elapse-controller@desk.service && $enter elapse list --at $desk | grep -q echo"
controller=elapse-controller@desk.service
same=$(unit "$controller" MainPID)
check "the controller's reload returns when it is done" inside systemctl reload "$controller"
check "in the same process" is "$controller" MainPID "$same"
healthy() { soon sh -c "$enter elapse workers --at $desk | grep -q '\"healthy\"'"; }
before=$(unit "$controller" NRestarts)
inside systemctl kill --kill-whom=main -s KILL "$controller"
check "a controller that is killed is started again" soon started_again "$controller" "$before"
check "and hears of its worker" healthy
before=$(unit "$controller" NRestarts)
inside systemctl kill --kill-whom=main -s STOP "$controller"
check "frozen, the watchdog starts it again" sh -c "for i in \$(seq 60); do [ \$($enter systemctl show -p NRestarts --value $controller) -gt $before ] && exit 0; sleep 1; done; exit 1"
check "and it hears of its worker" healthy
check "the controller stops" inside systemctl stop elapse-controller@desk.service
check "the worker outlives it" is elapse-worker@two.service ActiveState active
check "and stops" inside systemctl stop elapse-worker@two.service
for backend in process containerd docker; do
    name=on-$backend worker=elapse-worker@on-$backend.service
    check "$backend: a worker starts" inside systemctl start "$worker"
    check "$backend: a function answers" invoke "$name"
    check "$backend: its container is in the slice" test "$(containers)" -gt 0
    inside systemctl kill --kill-whom=main -s KILL "$worker"
    check "$backend: killed, it is started again" soon started_again "$worker" 0
    check "$backend: and takes its container over, warm" journal_has "$worker" 'warm=1 of=1'
    check "$backend: which answers" invoke "$name"
    sed -i 's/"recover"/"clean"/' "$tree/etc/elapse/$name.toml"
    inside systemctl kill --kill-whom=main -s KILL "$worker"
    check "$backend: killed with clean, it is started again" soon started_again "$worker" 1
    check "$backend: and removes what it had left" journal_has "$worker" 'had left'
    check "$backend: the container with it" test "$(containers)" = 0
    check "$backend: a function answers as before" invoke "$name"
    check "$backend: stop drains it" inside systemctl stop "$worker"
    check "$backend: no process is left" test "$(containers)" = 0
    check "$backend: nor a group, nor a folder" is_empty inside find /sys/fs/cgroup /run/elapse -name "$name*"
done
check "containerd: no namespace of ours is left" is_empty inside sh -c 'ctr namespaces ls -q | grep elapse'
check "docker: no container is left" is_empty inside docker ps -aq
check "the slice is there" is elapse.slice ActiveState active
if [ -z "$here" ]; then
make -s uninstall DESTDIR="$tree" PREFIX=/usr/local
check "uninstall takes what install brought" is_empty find "$tree/usr/local/bin" "$tree/etc/systemd/system" "$tree/etc/elapse" -mindepth 1 \( -name 'elapse*' -o -name '*.toml.example' \)
check "and leaves configurations" test -f "$tree/etc/elapse/one.toml"
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
