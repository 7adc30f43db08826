#!/bin/bash
# Runs the mutants in the work directory: mutants_inside.sh [NAME]... Started by scripts/mutants.
set -euo pipefail

# shellcheck source=scripts/lib/inside.sh
. "$(dirname "${BASH_SOURCE[0]}")/inside.sh"

readonly build=$work/build-mutants

# Warnings do not count: a broken twin may well leave a function without a caller. Nor does speed.
configure() {
    cmake -S "$source_dir" -B "$build" -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS='-O0 -w'
    cmake --build "$build" --parallel "$(nproc)" --target payonce_core
}

stage build "building what is to be broken" configure
python3 -B "$source_dir/test/mutants/mutants.py" "$source_dir" "$build" "$log_dir" "$@"
