#!/bin/bash
# Runs the benchmarks in the work directory: bench_inside.sh JSON_FD SVG_FD MARKDOWN_FD OUTPUT_FOLDER
# OPTION... Started by scripts/bench, which has opened the files of the result.
set -euo pipefail

# shellcheck source=scripts/lib/inside.sh
. "$(dirname "${BASH_SOURCE[0]}")/inside.sh"

readonly files=("${@:1:3}") output=$4 build=$work/build-bench
shift 4
python3 -B "$source_dir/bench/options.py" "$@"

build_programs() {
    cmake -S "$source_dir" -B "$build" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DPAYONCE_BENCH=ON
    cmake --build "$build" --parallel "$build_jobs" --target bench_drivers bench_curl_multi
}

# shared_buffers_mb: a quarter of the memory, as is usual, and at most what is needed.
shared_buffers_mb() {
    local quarter
    quarter=$(awk '/^MemTotal:/ { print int($2 / 4096) }' /proc/meminfo)
    echo $((quarter < 128 ? 128 : quarter > 4096 ? 4096 : quarter))
}

# No checkpoint and no autovacuum within a timed run, where it would hit one of the peers alone: both
# are made in between.
settings=(
    "shared_preload_libraries = 'payonce'" 'payonce.dispatch = off' 'max_connections = 150'
    "shared_buffers = '$(shared_buffers_mb)MB'" 'autovacuum = off' "max_wal_size = '16GB'"
    "checkpoint_timeout = '1h'" 'jit = off'
)

build_payonce
stage programs "building the benchmarks' programs" build_programs
stage server "starting PostgreSQL" start_server "${settings[@]}"
stage server "creating the extension" psql --no-psqlrc --quiet --command='CREATE EXTENSION payonce'
# Not in the foreground: there bash would not heed a signal until all is measured.
set -m
python3 -B "$source_dir/bench/main.py" "${files[@]}" "$build" "$work/t" "$@" </dev/null &
running_group=$!
set +m
wait "$running_group"
running_group=
stop_server
closing_line="The results are in $output."
