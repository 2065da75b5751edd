#!/usr/bin/env bash
# Private daemons for the tests: `daemons.sh up DIR` starts what is installed and prints the variables that name the
# sockets; `daemons.sh down DIR` ends them and removes what they made. Nothing of the host's own daemons is touched.
set -u
dir=$2
# The parent of all cgroups that the daemon makes, so that they can be told from those of the host's own.
group=$(basename "$dir")-docker

start_containerd() {
    mkdir -p "$dir/cd"
    cat >"$dir/cd/config.toml" <<C
version = 2
root = "$dir/cd/root"
state = "$dir/cd/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "$dir/cd/cd.sock"
C
    setsid containerd -c "$dir/cd/config.toml" >"$dir/cd/log" 2>&1 </dev/null &
    echo $! >"$dir/cd/pid"
    for _ in $(seq 200); do
        ctr -a "$dir/cd/cd.sock" version >/dev/null 2>&1 && echo "export ELAPSE_TEST_CONTAINERD=$dir/cd/cd.sock" && return
        sleep 0.05
    done
    echo "containerd did not come up: $(tail -n 3 "$dir/cd/log")" >&2
}

start_dockerd() {
    mkdir -p "$dir/dk"
    PATH="$PWD/tests/gpu-hook:$PATH" setsid dockerd --data-root "$dir/dk/data" --exec-root "$dir/dk/exec" \
        -H "unix://$dir/dk/dk.sock" --pidfile "$dir/dk/dockerd.pid" --iptables=false --ip6tables=false --ip-masq=false \
        --bridge=none --userland-proxy=false --cgroup-parent "/$group" --containerd-namespace "elapse-test-$$" \
        --containerd-plugins-namespace "elapse-test-plugins-$$" >"$dir/dk/log" 2>&1 </dev/null &
    echo $! >"$dir/dk/pid"
    for _ in $(seq 300); do
        docker -H "unix://$dir/dk/dk.sock" version >/dev/null 2>&1 && echo "export ELAPSE_TEST_DOCKER=$dir/dk/dk.sock" && return
        sleep 0.05
    done
    echo "dockerd did not come up: $(tail -n 3 "$dir/dk/log")" >&2
}

stop() {
    [ -f "$1/pid" ] || return 0
    pid=$(cat "$1/pid")
    kill "$pid" 2>/dev/null
    for _ in $(seq 200); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.05
    done
    kill -9 "$pid" 2>/dev/null
}

case $1 in
up)
    if [ "$(id -u)" = 0 ]; then
        command -v containerd >/dev/null && command -v runc >/dev/null && start_containerd
        command -v dockerd >/dev/null && start_dockerd
    fi
    ;;
down)
    stop "$dir/dk"
    stop "$dir/cd"
    # What a daemon that was killed hard has left mounted.
    awk -v d="$dir/" 'index($2, d) == 1 {print $2}' /proc/self/mounts | sort -r | while read -r m; do umount -l "$m"; done
    rm -rf "$dir"
    for parent in /sys/fs/cgroup/"$group" /sys/fs/cgroup/*/"$group"; do
        [ -d "$parent" ] && rmdir "$parent"
    done
    ;;
esac
exit 0
