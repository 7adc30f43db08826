#!/bin/bash
# Runs the benchmarks in the work directory. Started by scripts/bench.
set -euo pipefail

# shellcheck source=scripts/lib/inside.sh
. "$(dirname "${BASH_SOURCE[0]}")/inside.sh"

build_payonce
stage server "starting PostgreSQL" start_server \
    "shared_preload_libraries = 'payonce'" 'track_commit_timestamp = on'
stage server "creating the extension" psql --no-psqlrc --quiet --command='CREATE EXTENSION payonce'
bench/commit_to_wire "$@"
stop_server
bench/drivers "$work/build-bench"
