#!/bin/bash
# Starts a server with payonce in the work directory, and runs the given command beside it.
# Started by scripts/with-server.
set -euo pipefail

# shellcheck source=scripts/lib/inside.sh
. "$(dirname "${BASH_SOURCE[0]}")/inside.sh"

settings=("shared_preload_libraries = 'payonce'")
while [ "${1:-}" = --set ]; do
    settings+=("${2:?--set needs a line for postgresql.conf}")
    shift 2
done

# What the command prints must not be mixed with what the preparation says.
{
    build_payonce
    stage server "starting PostgreSQL" start_server "${settings[@]}"
    stage server "creating the extension" \
        psql --no-psqlrc --quiet --command='CREATE EXTENSION payonce'
} >&2
# Ctrl-C is the command's: psql cancels a query with it.
trap : INT
"${@:-psql}"
