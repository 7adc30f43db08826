#!/bin/bash
# Runs the simulation in the work directory: simulate_inside.sh ARGUMENT... Started by
# scripts/simulate.
set -euo pipefail

# shellcheck source=scripts/lib/inside.sh
. "$(dirname "${BASH_SOURCE[0]}")/inside.sh"

readonly simulation_build=$work/build-simulate

build_simulation() {
    cmake -S "$source_dir" -B "$simulation_build" -DCMAKE_BUILD_TYPE=RelWithDebInfo
    cmake --build "$simulation_build" --parallel "$build_jobs" --target payonce_simulate
}

stage build "building the simulation" build_simulation
"$simulation_build/payonce_simulate" "$@"
