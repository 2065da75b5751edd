#!/usr/bin/env bash
# Private daemons for the tests: `daemons.sh up DIR` starts what is installed and prints the variables that name the
# sockets; `daemons.sh down DIR` ends them and removes what they made. Nothing of the host's own daemons is touched.
set -u
dir=$2
# The parent of all cgroups that the daemon makes, so that they can be told from those of the host's own.
group=$(basename "$dir")-docker

# A containerd in a folder of ours, whose socket is told as a variable; what follows goes before its command.
start_containerd() { # folder, variable, wrapper
    cd=$dir/$1 variable=$2
    shift 2
    mkdir -p "$cd"
    cat >"$cd/config.toml" <<C
version = 2
root = "$cd/root"
state = "$cd/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "$cd/cd.sock"
C
    setsid "$@" containerd -c "$cd/config.toml" >"$cd/log" 2>&1 </dev/null &
    echo $! >"$cd/pid"
    until=$((SECONDS + 60))
    while [ "$SECONDS" -lt "$until" ]; do
        ctr -a "$cd/cd.sock" version >/dev/null 2>&1 && echo "export $variable=$cd/cd.sock" && return
        sleep 0.05
    done
    echo "containerd did not come up: $(tail -n 3 "$cd/log")" >&2
}

start_dockerd() {
    mkdir -p "$dir/dk"
    PATH="$PWD/tests/gpu-hook:$PATH" setsid dockerd --data-root "$dir/dk/data" --exec-root "$dir/dk/exec" \
        -H "unix://$dir/dk/dk.sock" --pidfile "$dir/dk/dockerd.pid" --iptables=false --ip6tables=false --ip-masq=false \
        --bridge=none --userland-proxy=false --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$group" --containerd-namespace "elapse-test-$$" \
        --containerd-plugins-namespace "elapse-test-plugins-$$" >"$dir/dk/log" 2>&1 </dev/null &
    echo $! >"$dir/dk/pid"
    until=$((SECONDS + 120))
    while [ "$SECONDS" -lt "$until" ]; do
        docker -H "unix://$dir/dk/dk.sock" version >/dev/null 2>&1 && echo "export ELAPSE_TEST_DOCKER=$dir/dk/dk.sock" && return
        sleep 0.05
    done
    echo "dockerd did not come up: $(tail -n 12 "$dir/dk/log")" >&2
}

# Graphite from PyPI: carbon and graphite-web, in a virtual environment that is kept in target/.
start_graphite() {
    python=python3
    venv=$PWD/target/graphite-venv
    if [ ! -x "$venv/bin/gunicorn" ]; then
        "$python" -m venv "$venv" && "$venv/bin/pip" install -q carbon==1.1.10 whisper==1.1.10 graphite-web==1.1.10 \
            gunicorn 'setuptools<81' >"$dir/pip.log" 2>&1 || { echo "graphite: $(tail -n 2 "$dir/pip.log")" >&2; return; }
    fi
    g=$dir/graphite
    mkdir -p "$g"/{conf,web} "$g"/storage/{whisper,log,run,rrd,lists}
    read -r line pickle query http < <("$python" -c 'import socket
s = [socket.socket() for _ in range(4)]
[x.bind(("127.0.0.1", 0)) for x in s]
print(*[x.getsockname()[1] for x in s])')
    # What we ship, behind series for a test of long steps.
    { printf '[coarse]\npattern = ^elapse\\.coarse\\.\nretentions = 10s:1h\n'; cat real/graphite/storage-schemas.conf
      printf '[all]\npattern = .*\nretentions = 1s:1h\n'; } >"$g/conf/storage-schemas.conf"
    cp real/graphite/storage-aggregation.conf "$g/conf/"
    cat >"$g/conf/carbon.conf" <<C
[cache]
USER =
STORAGE_DIR = $g/storage/
CONF_DIR = $g/conf/
LOG_DIR = $g/storage/log/
PID_DIR = $g/storage/run/
LOCAL_DATA_DIR = $g/storage/whisper/
LINE_RECEIVER_INTERFACE = 127.0.0.1
LINE_RECEIVER_PORT = $line
PICKLE_RECEIVER_INTERFACE = 127.0.0.1
PICKLE_RECEIVER_PORT = $pickle
CACHE_QUERY_INTERFACE = 127.0.0.1
CACHE_QUERY_PORT = $query
ENABLE_UDP_LISTENER = False
MAX_CACHE_SIZE = inf
MAX_UPDATES_PER_SECOND = 5000
MAX_CREATES_PER_MINUTE = inf
ENABLE_LOGROTATION = False
LOG_UPDATES = False
LOG_CREATES = False
CARBON_METRIC_INTERVAL = 0
ENABLE_TAGS = False
C
    cat >"$g/web/local_settings_elapse.py" <<C
from graphite.settings import *
SECRET_KEY = 'of no use to anyone'
DEBUG = False
ALLOWED_HOSTS = ['*']
TIME_ZONE = 'UTC'
STORAGE_DIR = '$g/storage'
WHISPER_DIR = '$g/storage/whisper'
STANDARD_DIRS = ['$g/storage/whisper']
LOG_DIR = '$g/storage/log'
INDEX_FILE = '$g/storage/index'
CONF_DIR = '$g/conf'
CARBONLINK_HOSTS = ['127.0.0.1:$query:a']
CARBONLINK_QUERY_BULK = False
DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': '$g/storage/graphite.db'}}
CACHES = {'default': {'BACKEND': 'django.core.cache.backends.dummy.DummyCache'}}
DEFAULT_CACHE_DURATION = 0
FIND_CACHE_DURATION = 0
TAGDB = None
C
    mkdir -p "$dir/carbon" "$dir/web"
    carbon=$(find "$venv" -name carbon-cache.py | head -n 1)
    GRAPHITE_ROOT=$g setsid "$venv/bin/python" "$carbon" --config="$g/conf/carbon.conf" --nodaemon \
        --pidfile="$g/storage/run/carbon.pid" start >"$dir/carbon/log" 2>&1 </dev/null &
    echo $! >"$dir/carbon/pid"
    app=$(dirname "$(dirname "$(find "$venv" -type d -path '*graphite/render' | head -n 1)")")
    export PYTHONPATH=$g/web:$app DJANGO_SETTINGS_MODULE=local_settings_elapse GRAPHITE_ROOT=$g
    "$venv/bin/python" -m django migrate --run-syncdb >"$dir/web/migrate.log" 2>&1
    (cd "$g/web" && exec setsid "$venv/bin/gunicorn" --no-control-socket -w 1 --threads 4 -b "127.0.0.1:$http" \
        graphite.wsgi:application >"$dir/web/log" 2>&1 </dev/null) &
    echo $! >"$dir/web/pid"
    for _ in $(seq 200); do
        if (echo >"/dev/tcp/127.0.0.1/$line") 2>/dev/null && "$python" -c "import urllib.request as u
u.urlopen('http://127.0.0.1:$http/metrics/find?query=*', timeout=5)" 2>/dev/null; then
            echo "export ELAPSE_TEST_CARBON=127.0.0.1:$line ELAPSE_TEST_CARBON_PICKLE=127.0.0.1:$pickle"
            echo "export ELAPSE_TEST_GRAPHITE=http://127.0.0.1:$http"
            return
        fi
        sleep 0.1
    done
    echo "graphite did not come up: $(tail -n 3 "$dir/web/log" "$dir/carbon/log")" >&2
}

# A registry of images, empty.
start_registry() {
    mkdir -p "$dir/registry"
    port=$(python3 -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])')
    cat >"$dir/registry/config.yml" <<C
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $dir/registry/data}}
http: {addr: "127.0.0.1:$port"}
C
    setsid docker-registry serve "$dir/registry/config.yml" >"$dir/registry/log" 2>&1 </dev/null &
    echo $! >"$dir/registry/pid"
    for _ in $(seq 200); do
        (echo >"/dev/tcp/127.0.0.1/$port") 2>/dev/null && echo "export ELAPSE_TEST_REGISTRY=127.0.0.1:$port" && return
        sleep 0.05
    done
    echo "the registry did not come up: $(tail -n 3 "$dir/registry/log")" >&2
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
    command -v python3 >/dev/null && start_graphite
    if [ "$(id -u)" = 0 ]; then
        command -v containerd >/dev/null && command -v runc >/dev/null && start_containerd cd ELAPSE_TEST_CONTAINERD
        # crun refuses cgroups of which some are v1 and some v2: its containerd does not see the v2 ones.
        command -v containerd >/dev/null && command -v crun >/dev/null && start_containerd cr ELAPSE_TEST_CRUN \
            unshare --mount --propagation slave sh -c 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"' --
        command -v dockerd >/dev/null && start_dockerd
    fi
    command -v docker-registry >/dev/null && command -v python3 >/dev/null && start_registry
    ;;
down)
    stop "$dir/registry"
    stop "$dir/web"
    stop "$dir/carbon"
    stop "$dir/dk"
    stop "$dir/cr"
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
