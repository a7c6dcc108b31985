#!/bin/sh
# Runs a command with a Docker daemon and Compose: `with_docker.sh COMMAND...`. Says what is missing, if it is.
#
# A daemon that runs is taken as it is. Else root starts one in namespaces of its own for network, mounts and
# processes, and the command runs there, too. The firewall and the interfaces of this machine stay as they are, other
# tests with networks may run at the same time, and nothing that the daemon has started outlives the command.
# slirp4netns leads out to the package index.
#
# The command gets QUAKEGRID_BASE_IMAGE: the Dockerfile's own base from the registry or, where none is reachable, an
# image made out of Debian's packages. Images stay in /var/cache/quakegrid-compose-tests, for the next time.
set -eu
here=$(dirname "$0")
made_image=quakegrid-test-base:bookworm
cgroup=quakegrid-compose-tests
data=/var/cache/quakegrid-compose-tests

fail() {
    echo "make test-compose: $1" >&2
    exit 2
}

need() {
    command -v "$1" >/dev/null || fail "there is no $1: apt-get install $2"
}

# Waits until a command succeeds, as long as a process lives; else shows the end of its log.
await() {
    process=$1 log=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        kill -0 "$process" 2>/dev/null || { tail -n 5 "$log" >&2; fail "$(basename "$log" .log) does not start here"; }
        sleep 0.2
    done
}

leave() {
    kill $way_out 2>/dev/null || true
    umount "$network" 2>/dev/null || true
    rm -rf "$folder"
    find /sys/fs/cgroup -depth -type d -path "*/$cgroup*" -exec rmdir {} + 2>/dev/null || true
}

# Outside: makes the network, starts this script again within, and removes all of it.
run_apart() {
    [ "$(id -u)" = 0 ] || fail "no Docker daemon answers; start it, or run this as root, who may start one"
    need dockerd docker.io
    need iptables iptables
    need slirp4netns slirp4netns
    folder=$(mktemp -d)
    network=$folder/network
    way_out=
    trap leave EXIT
    trap 'exit 4' INT TERM
    touch "$network"
    unshare --net="$network" true
    slirp4netns --configure --mtu=65520 --disable-host-loopback --netns-type=path "$network" tap0 \
        >"$folder/slirp4netns.log" 2>&1 &
    way_out=$!
    await "$way_out" "$folder/slirp4netns.log" nsenter --net="$network" grep -q tap0 /proc/self/net/route
    code=0
    nsenter --net="$network" unshare --mount --pid --fork --kill-child --mount-proc \
        env QUAKEGRID_DOCKER_FOLDER="$folder" "$0" "$@" || code=$?
    exit "$code"
}

# Within: starts the daemon. Its end takes the containers with it, and ours whatever is left.
start_daemon() {
    folder=$QUAKEGRID_DOCKER_FOLDER
    export DOCKER_HOST="unix://$folder/docker.sock"
    dockerd --host "$DOCKER_HOST" --data-root "$data" --exec-root "$folder/exec" --pidfile "$folder/pid" \
        --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "$cgroup" >"$folder/dockerd.log" 2>&1 &
    daemon=$!
    trap 'kill "$daemon" 2>/dev/null || true; wait "$daemon" 2>/dev/null || true' EXIT
    trap 'exit 4' INT TERM
    await "$daemon" "$folder/dockerd.log" docker info
    # A run that was killed has left containers, which the daemon starts again: their ports would be taken.
    docker ps --all --quiet | xargs -r docker rm --force --volumes >/dev/null
    docker volume ls --quiet | xargs -r docker volume rm --force >/dev/null
    docker network prune --force >/dev/null
    echo "started a Docker daemon for the tests, in a network of its own"
}

choose_base_image() {
    base=$(sed -n 's/^ARG BASE_IMAGE=//p' "$here/../../deploy/Dockerfile")
    if docker image inspect "$made_image" >/dev/null 2>&1; then
        base=$made_image
    elif ! docker image inspect "$base" >/dev/null 2>&1 && ! docker pull --quiet "$base" >/dev/null 2>&1; then
        [ "$(id -u)" = 0 ] || fail "no registry has $base, and only root can make an image with debootstrap"
        need debootstrap debootstrap
        echo "no registry has $base: making $made_image"
        "$here/make_base_image.sh" "$made_image" >/dev/null || fail "no base image could be made"
        base=$made_image
    fi
    export QUAKEGRID_BASE_IMAGE="$base"
}

need docker "docker.io docker-compose"
docker compose version >/dev/null 2>&1 || need docker-compose docker-compose
if [ -n "${QUAKEGRID_DOCKER_FOLDER:-}" ]; then
    start_daemon
elif ! docker info >/dev/null 2>&1; then
    run_apart "$@"
fi
[ -n "${QUAKEGRID_BASE_IMAGE:-}" ] || choose_base_image
"$@"
