#!/bin/sh
# Runs a calculation of this machine on the cluster of docker-compose.yml, which must be up.
#
# Usage: deploy/run.sh JOB.ini OUT [OPTIONS of `quakegrid run`]. The folder of JOB.ini goes into the cluster;
# what the calculation exported comes out into the folder OUT. The exit code is that of `quakegrid run`.
set -eu
if [ $# -lt 2 ] || [ ! -f "$1" ]; then
    echo "usage: $0 JOB.ini OUT [OPTIONS of quakegrid run]" >&2
    exit 2
fi
inputs=$(cd "$(dirname "$1")" && pwd)
job_ini=$(basename "$1")
mkdir -p "$2"
out=$(cd "$2" && pwd)
shift 2
compose() {
    if docker compose version >/dev/null 2>&1; then
        docker compose --project-directory "$root" "$@"
    else
        docker-compose --project-directory "$root" "$@"
    fi
}
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
folder=$(compose exec -T driver mktemp -d /shared/job-XXXXXX </dev/null | tr -d '\r')
trap 'compose exec -T driver rm -rf "$folder" </dev/null' EXIT
tar -C "$inputs" -c . | compose exec -T driver tar -C "$folder" -x --no-same-owner -f -
code=0
terminal=
[ -t 0 ] && [ -t 1 ] || terminal=-T
compose exec $terminal -w "$folder" driver quakegrid run "$job_ini" --export-dir .exported "$@" || code=$?
compose exec -T driver sh -c 'mkdir -p "$0" && tar -C "$0" -c .' "$folder/.exported" </dev/null | tar -C "$out" -x -f -
[ "$code" != 0 ] || echo "exported to $out"
exit "$code"
