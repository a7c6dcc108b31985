#!/bin/sh
# Makes what a virtual machine boots: a Debian with systemd, and QuakeGrid of this clone in /opt/quakegrid/venv.
#
# Usage: make_image.sh FOLDER. Needs root, debootstrap, mke2fs, Debian's archive and the package
# index. Writes FOLDER/{disk.ext4,vmlinuz,initrd}; FOLDER/root stays, so that the next time only the clone's
# own files are installed anew. The machine has no engine: where it is emulated, that would take an hour to load.
set -eu
mkdir -p "$1"
folder=$(cd "$1" && pwd)
clone=$(cd "$(dirname "$0")/../../.." && pwd)
root=$folder/root
packages=systemd,systemd-sysv,dbus,udev,initramfs-tools,linux-image-cloud-amd64,qemu-guest-agent,procps
packages=$packages,iproute2,python3,python3-venv,make,ca-certificates,nfs-kernel-server,nfs-common

if [ ! -f "$folder/debian-is-there" ]; then
    rm -rf "$root"
    mkdir -p "$folder/packages"
    debootstrap --variant=minbase --cache-dir="$folder/packages" --include="$packages" bookworm "$root" \
        >"$folder/log" 2>&1 || { tail -n 20 "$folder/log" >&2; exit 1; }
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
    touch "$folder/debian-is-there"
fi

rm -rf "$root/root/quakegrid"
mkdir -p "$root/root/quakegrid" "${UV_CACHE_DIR:=$HOME/.cache/uv}"
git -C "$clone" ls-files -z --cached --others --exclude-standard |
    tar -C "$clone" --null --files-from=- --ignore-failed-read -c | tar -C "$root/root/quakegrid" -x
# What is mounted here is gone with the process that sees it. The tests get an environment of their own.
unshare --mount sh -euc '
    mkdir -p "$1/root/.cache/uv"
    mount --bind "$2" "$1/root/.cache/uv"
    mount --bind /etc/resolv.conf "$1/etc/resolv.conf"
    mount -t proc proc "$1/proc"
    mount -t devtmpfs dev "$1/dev"
    exec chroot "$1" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin UV_LINK_MODE=copy sh -euc "
        make -C /root/quakegrid install-system EXTRAS=
        cd /root/quakegrid
        export UV_PROJECT_ENVIRONMENT=/root/tests-venv UV_SYSTEM_CERTS=true
        .venv/tools/bin/uv sync --quiet --frozen --compile-bytecode --python /usr/bin/python3
    "' sh "$root" "$UV_CACHE_DIR" >"$folder/log" 2>&1 || { tail -n 20 "$folder/log" >&2; exit 1; }

cp "$root"/boot/vmlinuz-* "$folder/vmlinuz"
cp "$root"/boot/initrd.img-*-amd64 "$folder/initrd"
rm -f "$folder/disk.ext4"
mke2fs -q -t ext4 -d "$root" "$folder/disk.ext4" 4G
