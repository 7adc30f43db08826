# Builds the fuzz targets and runs them: over the stored corpus for the test suites, for a while to
# fuzz. Sourced by suites.sh and fuzz_inside.sh.

# shellcheck shell=bash

readonly fuzz_build=$work/build-fuzz fuzz_sources=$source_dir/test/fuzz

build_fuzz_targets() {
    cmake -S "$source_dir" -B "$fuzz_build" -DCMAKE_BUILD_TYPE=Debug \
        -DCMAKE_CXX_COMPILER=clang++ -DPAYONCE_FUZZ=ON
    cmake --build "$fuzz_build" --parallel "$build_jobs" --target fuzz
}

# find_fuzz_targets FILTER: sets `fuzz_targets` to those whose names contain the filter.
find_fuzz_targets() {
    mapfile -t fuzz_targets < <(grep -l '^extern "C" int LLVMFuzzerTestOneInput.*{' \
        "$fuzz_sources"/*"$1"*.cpp | sed 's|.*/||; s|\.cpp$||' | LC_ALL=C sort)
    [ "${#fuzz_targets[@]}" -gt 0 ] || {
        echo "No fuzz target is named *$1*."
        return 1
    }
}

# run_fuzz_target TARGET ARGUMENT...: what it finds stays beside the logs.
run_fuzz_target() {
    local target=$1 run=()
    shift
    # Older versions of the address sanitizer do not start where the kernel randomizes addresses
    # with many bits. Some containers do not allow this, and need not.
    ! setarch --addr-no-randomize true 2>/dev/null || run=(setarch --addr-no-randomize)
    UBSAN_OPTIONS=print_stacktrace=1 "${run[@]}" "$fuzz_build/fuzz_$target" \
        -artifact_prefix="$log_dir/$target-" -timeout=30 -rss_limit_mb=2048 "$@"
}
