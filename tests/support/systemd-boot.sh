#!/bin/bash
# Boots a throw-away, real systemd as PID 1 of fresh namespaces, over a copy-on-write view of the running root file
# system; the host's own init, /run, /tmp, cgroups and network are left alone. For tests of the unit where the host's
# PID 1 is something else (a container, a build machine). Needs root, cgroup2, overlayfs, systemd >= 250.
#
#   systemd-boot.sh up   STATE [UNIT_OR_DROP_IN_DIR ...]   boot; returns once PID 1 answers
#   systemd-boot.sh run  STATE COMMAND ...                 run a command inside
#   systemd-boot.sh down STATE                             power off, unmount, remove the cgroup
#
# STATE is an empty folder of the caller's. BOOT_BINDS holds lines "SOURCE<tab>TARGET": folders of the host that are
# shown, read-only, inside. Exit status 77: this machine cannot do it.
set -euo pipefail

die() { echo "systemd-boot: $1" >&2; exit "${2:-1}"; }

[ $# -ge 2 ] || die "usage: $0 up|run|down STATE ..."
verb=$1
state=$(realpath -m "$2")
shift 2

check_machine() {
    [ "$(id -u)" = 0 ] || die "needs root" 77
    [ -x /lib/systemd/systemd ] || die "systemd is not installed" 77
    for tool in unshare nsenter pgrep findmnt setsid pivot_root; do
        command -v "$tool" >/dev/null || die "$tool is not installed" 77
    done
    grep -qw overlay /proc/filesystems || modprobe overlay 2>/dev/null || die "no overlayfs" 77
    [ -n "$(cgroup2)" ] || die "no cgroup2 mount" 77
}

cgroup2() { findmnt -rn -t cgroup2 -o TARGET | head -1; }

make_units() {
    mkdir -p "$state/units"
    # a target of its own, so that none of the host's services start inside
    cat > "$state/units/boot-test.target" <<'X'
[Unit]
Description=Minimal target for tests
DefaultDependencies=no
Wants=systemd-journald.socket systemd-journald.service
AllowIsolate=yes
X
    for unit in "$@"; do cp -r "$unit" "$state/units/"; done
}

up() {
    check_machine
    mkdir -p "$state"
    make_units "$@"
    group=$(cgroup2)/boot-test-$$-$RANDOM
    mkdir "$group" || die "cgroup2 is read-only" 77
    echo "$group" > "$state/cgroup"
    # the shell joins the new cgroup first, so that inside it is the root of the tree
    setsid bash -c '
        echo $$ > "$1/cgroup.procs"
        exec unshare --mount --uts --ipc --pid --cgroup --net --fork --kill-child \
             --propagation private bash "$2" inside "$3"' \
        boot "$group" "$(realpath "$0")" "$state" </dev/null >"$state/boot.log" 2>&1 &
    outer=$!
    for _ in $(seq 300); do
        init=$(pgrep -P "$outer" -x systemd 2>/dev/null || true)
        if [ -n "$init" ]; then
            echo "$init" > "$state/pid"
            case $(nsenter -t "$init" -a -- systemctl is-system-running 2>/dev/null || true) in
                running|degraded) exit 0 ;;
            esac
        fi
        kill -0 "$outer" 2>/dev/null || { cat "$state/boot.log" >&2; die "the guest died while booting"; }
        sleep 0.05
    done
    cat "$state/boot.log" >&2
    die "the guest did not come up in 15 s"
}

inside() {  # as PID 1 of the new namespaces
    root=$state/root
    mkdir -p "$root" "$state/overlay"
    mount -t tmpfs -o size=512m,mode=755 overlay "$state/overlay"
    mkdir "$state/overlay/upper" "$state/overlay/work"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$state/overlay/upper,workdir=$state/overlay/work" "$root"
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sysfs "$root/sys" 2>/dev/null || mount --rbind -o ro /sys "$root/sys"
    mount -t tmpfs -o mode=755 cgroups "$root/sys/fs" 2>/dev/null || true
    mkdir -p "$root/sys/fs/cgroup"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    mount -t tmpfs -o mode=755 run "$root/run"
    mount -t tmpfs -o mode=1777 tmp "$root/tmp"
    make_devices
    while IFS=$'\t' read -r source target; do
        [ -n "$source" ] || continue
        mkdir -p "$root$target"
        mount --bind "$source" "$root$target"
        mount -o remount,bind,ro "$root$target"
    done <<< "${BOOT_BINDS:-}"
    mkdir -p "$root/run/systemd/system" "$root/run/lock"
    cp -r "$state/units/." "$root/run/systemd/system/"
    : > "$root/etc/fstab"
    echo boot-test > "$root/etc/hostname"
    rm -f "$root/etc/machine-id"
    echo 0123456789abcdef0123456789abcdef > "$root/etc/machine-id"
    cd "$root"
    mkdir -p .old
    pivot_root . .old
    umount -l /.old
    exec env -i container=boot-test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        LANG=C.UTF-8 TERM=dumb /lib/systemd/systemd --system --unit=boot-test.target --show-status=no
}

make_devices() {
    # a /dev of its own: journald would leave a /dev/log behind, and PID 1 would write to the host's console
    mount -t tmpfs -o mode=755,size=1m dev "$root/dev"
    for device in null zero full random urandom tty; do
        : > "$root/dev/$device"
        mount --bind "/dev/$device" "$root/dev/$device"
    done
    mkdir "$root/dev/shm" "$root/dev/pts"
    mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    for stream in 0:stdin 1:stdout 2:stderr; do
        ln -s "/proc/self/fd/${stream%%:*}" "$root/dev/${stream#*:}"
    done
}

down() {
    init=$(cat "$state/pid" 2>/dev/null || true)
    if [ -n "$init" ] && kill -0 "$init" 2>/dev/null; then
        nsenter -t "$init" -a -- systemctl --force --no-block poweroff 2>/dev/null || true
        for _ in $(seq 60); do kill -0 "$init" 2>/dev/null || break; sleep 0.05; done
        kill -9 "$init" 2>/dev/null || true  # the init of a PID namespace takes all of it along
    fi
    group=$(cat "$state/cgroup" 2>/dev/null || true)
    if [ -n "$group" ]; then
        for _ in $(seq 40); do
            find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && break
            sleep 0.05
        done
    fi
    rm -rf "$state/overlay" "$state/root" "$state/units" "$state/pid" "$state/cgroup"
}

case $verb in
    up) up "$@" ;;
    inside) inside ;;
    run) exec nsenter -t "$(cat "$state/pid")" -a --wd=/ -- "$@" ;;
    down) down ;;
    *) die "unknown verb $verb" ;;
esac
