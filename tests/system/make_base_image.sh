#!/bin/sh
# Makes a base image for deploy/Dockerfile out of Debian's packages, where no image registry is reachable.
#
# Usage: make_base_image.sh TAG. Needs root, debootstrap and a Docker daemon. The image trusts the
# certificate authorities that this machine trusts, so that it reaches the package index as we do.
set -eu
tag=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
    bookworm "$folder/root" >"$folder/log" 2>&1 || { tail -n 20 "$folder/log" >&2; exit 1; }
rm -rf "$folder"/root/var/cache/apt/archives/*.deb "$folder"/root/var/lib/apt/lists/*
cp /etc/ssl/certs/ca-certificates.crt "$folder/root/etc/ssl/certs/ca-certificates.crt"
tar -C "$folder/root" -c . | docker import --change 'CMD ["/bin/sh"]' - "$tag"
