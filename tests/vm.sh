#!/usr/bin/env bash
# The tests of real containers in a virtual machine with a stock kernel and cgroup v2, as every current distribution has it: this
# machine's own programs, in a Debian of its release with that one's containerd, runc, crun and docker, under software emulation (ten to
# twenty times slower, and the same everywhere). Opt-in (make test-vm): the first time it makes a Debian tree, which is kept.
# usage: tests/vm.sh [FILE OF tests/elapse ...], by default live network state security doors daemon backend_contract systemd
# Needs root. Prints each result, and ends with: N passed, N failed.
set -u
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "make test-vm needs root"; exit 3; }
command -v qemu-system-x86_64 >/dev/null && command -v mmdebstrap >/dev/null || tests/install.sh qemu-system-x86 mmdebstrap
programs=${*:-live network state security doors daemon backend_contract systemd}
vm=$PWD/target/vm
tree=$vm/tree
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
mkdir -p "$vm"
packages=linux-image-cloud-amd64,systemd,systemd-sysv,udev,dbus,iproute2,procps,kmod,util-linux,python3,nftables,iptables,containerd,runc,crun,docker.io,apparmor,docker-registry
# Another list makes another tree.
root=$vm/$(printf %s "$release $packages" | cksum | cut -d' ' -f1).tar
if [ ! -s "$root" ]; then
    mmdebstrap --variant=minbase --include="$packages" "$release" "$root" >"$vm/debian.log" 2>&1 ||
        { echo "no Debian tree could be made: see $vm/debian.log"; rm -f "$root"; exit 3; }
fi
features="--features containerd,whole"
# shellcheck disable=SC2086
binary=$(cargo test --workspace $features --locked --no-run --message-format=json 2>/dev/null |
    python3 -c 'import json, sys
for line in sys.stdin:
    told = json.loads(line)
    if told.get("executable") and told["target"]["kind"] == ["test"] and told["target"]["name"] == "elapse": print(told["executable"])')
[ -n "$binary" ] || { echo "the tests were not built: cargo test --workspace $features --no-run"; exit 2; }
rm -rf "$tree" && mkdir -p "$tree" && tar -xf "$root" -C "$tree" --exclude='./dev/*'
# Where the tests were built, as they know their own places.
here=$tree$PWD
mkdir -p "$here/target/release" "$here/target/debug/deps"
cp -a Cargo.toml tests scenarios sim-traces examples real "$here/"
cp target/release/elapse target/release/elapse-agent target/release/elapse-attempts "$here/target/release/"
cp target/debug/elapse "$here/target/debug/"
cp "$binary" "$here/target/debug/deps/"
make -s install DESTDIR="$tree" PREFIX=/usr/local >/dev/null || exit 1
cat >"$tree/run-tests" <<X
#!/bin/bash
cd $PWD
export PATH=$PWD/target/debug:\$PATH HOME=/root ELAPSE_SLOWER=30 ELAPSE_REQUIRE=root,process,docker,containerd,crun,attempts,namespaces
systemctl stop docker.socket docker containerd 2>/dev/null
echo "cgroup v2: \$(cat /sys/fs/cgroup/cgroup.controllers); kernel \$(uname -r); containerd \$(containerd --version | cut -d' ' -f3)"
$PWD/target/release/elapse doctor 2>&1 | head -40
for name in $programs; do
    if [ "\$name" = systemd ]; then
        systemctl start containerd docker
        tests/systemd.sh --here 2>&1 | sed 's/^/systemd: /'
        systemctl stop docker.socket docker containerd 2>/dev/null
        continue
    fi
    daemons=\$(mktemp -d /tmp/elapse-tests.XXXXXX)
    eval "\$(tests/daemons.sh up "\$daemons" 2>/tmp/up)"
    sed "s/^/daemons: /" /tmp/up
    # One at a time: what is emulated has no time to share.
    timeout \${LIMIT_EACH:-1500} "$binary" "\$name::" --test-threads=1 2>&1 | grep --line-buffered -E '^test |^test result|panicked|assertion|left on the host|^  *(left|right):|FAILED|SKIPPED' | cut -c1-300 | sed "s/^/\$name: /"
    tests/daemons.sh down "\$daemons"
done
X
chmod +x "$tree/run-tests"
cat >"$tree/etc/systemd/system/elapse-tests.service" <<X
[Unit]
After=multi-user.target
[Service]
Type=oneshot
TimeoutStartSec=infinity
Delegate=yes
StandardOutput=journal+console
StandardError=journal+console
ExecStart=/bin/sh -c '/run-tests; echo ELAPSE-TESTS-END; systemctl poweroff'
[Install]
WantedBy=multi-user.target
X
mkdir -p "$tree/etc/systemd/system/multi-user.target.wants"
ln -sf ../elapse-tests.service "$tree/etc/systemd/system/multi-user.target.wants/elapse-tests.service"
rm -f "$vm/disk.img" && mke2fs -q -t ext4 -d "$tree" "$vm/disk.img" 12G || exit 1
kernel=$(ls "$tree"/boot/vmlinuz-* | tail -1) initrd=$(ls "$tree"/boot/initrd.img-* | tail -1)
timeout "${LIMIT:-10800}" qemu-system-x86_64 -cpu max -m 4096 -smp 2 -nographic -no-reboot -kernel "$kernel" -initrd "$initrd" \
    -append 'root=/dev/vda rw console=ttyS0 quiet systemd.show_status=false' -drive file="$vm/disk.img",if=virtio,format=raw \
    </dev/null 2>&1 | stdbuf -oL tr -d '\r' | sed -u 's/^\[[ 0-9.]*\] sh\[[0-9]*\]: //' | tee "$vm/console.log" | grep --line-buffered -E '^(cgroup|systemd|[a-z_]+): |doctor|ELAPSE' || true
grep -q ELAPSE-TESTS-END "$vm/console.log" || { echo "the machine did not come to its end: see $vm/console.log"; exit 1; }
passed=$(grep -cE '^[a-z_]+: (test .* \.\.\. ok|ok: )' "$vm/console.log") failed=$(grep -cE '^[a-z_]+: (test .* \.\.\. FAILED|FAILED: )' "$vm/console.log")
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
