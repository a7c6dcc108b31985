#!/bin/sh
# Runs a command with a Docker daemon and Compose: `with_docker.sh COMMAND...`. Says what is missing, if it is.
#
# A daemon that runs is taken as it is; else root starts one, and puts all back at the end. The command gets
# QUAKEGRID_BASE_IMAGE: the Dockerfile's own base from the registry or, where none is reachable, an image
# made out of Debian's packages. Images stay, for the next time.
set -eu
here=$(dirname "$0")
made_image=quakegrid-test-base:bookworm

fail() {
    echo "make test-compose: $1" >&2
    exit 2
}

command -v docker >/dev/null || fail "there is no docker: apt-get install docker.io docker-compose"
docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null ||
    fail "there is neither Compose v2 nor docker-compose: apt-get install docker-compose"

folder=$(mktemp -d)
daemon=
finish() {
    if [ -n "$daemon" ]; then
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
        # It leaves its bridge and a firewall that forwards nothing else: tests with networks come after us.
        iptables-restore <"$folder/firewall" || true
        echo "$forwards" >/proc/sys/net/ipv4/ip_forward
        ip link delete docker0 2>/dev/null || true
    fi
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 4' INT TERM

if ! docker info >/dev/null 2>&1; then
    [ "$(id -u)" = 0 ] || fail "no Docker daemon answers; start it, or run this as root, who may start one"
    command -v dockerd >/dev/null || fail "no Docker daemon answers, and there is no dockerd: apt-get install docker.io"
    { iptables-save -t filter && iptables-save -t nat; } >"$folder/firewall" 2>/dev/null ||
        fail "a Docker daemon needs iptables: apt-get install iptables"
    forwards=$(cat /proc/sys/net/ipv4/ip_forward)
    export DOCKER_HOST="unix://$folder/docker.sock"
    dockerd --host "$DOCKER_HOST" --exec-root "$folder/exec" --pidfile "$folder/pid" >"$folder/log" 2>&1 &
    daemon=$!
    until docker info >/dev/null 2>&1; do
        kill -0 "$daemon" 2>/dev/null || { tail -n 5 "$folder/log" >&2; fail "dockerd does not start here"; }
        sleep 0.2
    done
    echo "started a Docker daemon for the tests"
fi

if [ -z "${QUAKEGRID_BASE_IMAGE:-}" ]; then
    base=$(sed -n 's/^ARG BASE_IMAGE=//p' "$here/../../deploy/Dockerfile")
    if docker image inspect "$made_image" >/dev/null 2>&1; then
        base=$made_image
    elif ! docker image inspect "$base" >/dev/null 2>&1 && ! docker pull --quiet "$base" >/dev/null 2>&1; then
        command -v debootstrap >/dev/null || fail "no registry has $base, and there is no debootstrap to make an image"
        [ "$(id -u)" = 0 ] || fail "no registry has $base, and only root can make an image with debootstrap"
        echo "no registry has $base: making $made_image"
        "$here/make_base_image.sh" "$made_image" >/dev/null || fail "no base image could be made"
        base=$made_image
    fi
    export QUAKEGRID_BASE_IMAGE="$base"
fi

"$@"
