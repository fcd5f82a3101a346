#!/bin/sh
# One gateway in front of several engines, given as `hub serve --engine` takes them:
#
#   BASE=starter ./gateway.sh http://gpu1:8000 http://gpu2:8000
#   BASE=starter ADAPTERS=/srv/adapters ./gateway.sh http://engines:8000,loads=lazy
#   BASE=starter ADAPTERS=s3://bucket/adapters ./gateway.sh 'http://ray:8000,loads=lazy,name={base}:{name}'
#
# It stays on loopback; nginx.conf puts TLS in front of it.
set -eu

: "${BASE:?what the hub calls the base}"
for engine in "$@"; do
    set -- "$@" --engine "$engine"
    shift
done
exec hub serve --base "$BASE" --port "${PORT:-8080}" ${ADAPTERS:+--adapter-folder "$ADAPTERS"} "$@"
