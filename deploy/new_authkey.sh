#!/bin/sh
# Makes the authkey of the cluster in docker-compose.yml, and names its file in .env. Keeps one that is there.
set -eu
cd "$(dirname "$0")/.."
name=deploy/secrets/authkey
if [ -e "$name" ]; then
    echo "$name is there already; remove it and the containers to have a new one"
else
    # The folder keeps other users out; the containers' user, which is none of this machine's, gets the file.
    (umask 077 && mkdir -p deploy/secrets)
    key=$(head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n')
    printf '[dbserver]\nauthkey = %s\n' "$key" >"$name"
    chmod 0644 "$name"
    echo "made $name"
fi
if ! grep -qs '^QUAKEGRID_AUTHKEY_FILE=' .env; then
    echo "QUAKEGRID_AUTHKEY_FILE=./$name" >>.env
fi
echo "next: docker compose up -d --scale agent=3"
