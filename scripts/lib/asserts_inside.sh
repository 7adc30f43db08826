#!/bin/bash
# Builds a PostgreSQL with assertions in the work directory, and goes on as scripts/test does, on it:
# asserts_inside.sh [SUITE[:FILTER]]... Started by scripts/asserts.
set -euo pipefail

# shellcheck source=scripts/lib/inside.sh
. "$(dirname "${BASH_SOURCE[0]}")/inside.sh"

# Of the TAP scripts: the worker's ways, its ends, databases that come and go, standbys.
readonly usual_suites=(
    regress isolation isolation-without-lock pgtap
    tap:001_ tap:002_ tap:004_ tap:013_ tap:031_ tap-faults:040_ valgrind
)
# As little as the suites need. The release's own archive has what bison and flex would make.
readonly configure_options=(
    --enable-cassert --enable-debug --enable-tap-tests --with-openssl --without-readline --without-icu
)
readonly optimization='-O1 -fno-omit-frame-pointer'

# package_version: prints that of the package that the server is from.
package_version() {
    local package
    package=$(dpkg-query --search "$("$PAYONCE_PG_CONFIG" --bindir)/postgres" | cut -d: -f1) &&
        dpkg-query --show --showformat='${Version}' "$package"
}

# Lists, caches and sources of our own: neither root nor `deb-src` lines in the system's
# configuration are needed, and its lists stay as they are.
readonly apt_options=(
    -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$work/apt/sources"
    -o Dir::State::Lists="$work/apt/lists" -o Dir::Cache="$work/apt/cache"
    -o APT::Update::Post-Invoke-Success= -o APT::Update::Post-Invoke= -o Acquire::Retries=3
)
apt_get() { apt-get "${apt_options[@]}" "$@"; }
apt_cache() { apt-cache "${apt_options[@]}" "$@"; }

# name_source_archives: for every archive of packages that this system uses, that of their sources.
name_source_archives() {
    local file
    rm -rf -- "${work:?}/apt"
    mkdir -p "$work/apt/"{sources,lists/partial,cache/archives/partial}
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ ! -r "$file" ] || sed -n 's/^[[:space:]]*deb[[:space:]]/deb-src /p' "$file" \
            >"$work/apt/sources/$(basename "$file" .list).list"
    done
    for file in /etc/apt/sources.list.d/*.sources; do
        [ ! -r "$file" ] || sed 's/^Types:.*/Types: deb-src/' "$file" \
            >"$work/apt/sources/$(basename "$file")"
    done
}

# known_versions PACKAGE: prints the versions of its source that the archives know, newest first.
known_versions() {
    apt_cache showsrc "$1" | sed -n 's/^Version: //p' | sort --version-sort --reverse --unique
}

# fetch_source PACKAGE VERSION: unpacks the source package into $work/source/postgresql, without the
# distribution's patches, which install into fixed folders. An archive keeps the newest versions only,
# and not every mirror has the sources of each: then another of the same major version has to do.
fetch_source() {
    local candidate
    name_source_archives
    # Not every archive that a system uses has sources.
    apt_get update || echo 'going on with the lists that could be read'
    rm -rf -- "${work:?}/source"
    mkdir "$work/source"
    cd "$work/source"
    for candidate in "$2" $(known_versions "$1"); do
        ! apt_get source --download-only "$1=$candidate" || break
    done
    dpkg-source --skip-patches --extract ./*.dsc postgresql
    rm -rf -- "${work:?}/apt"
}

# build_server FOLDER: what the suites need of the unpacked source, installed into the folder.
build_server() {
    local make=(make --silent -j"$build_jobs")
    cd "$work/source/postgresql"
    ./configure --prefix="$1" "${configure_options[@]}" CFLAGS="-g $optimization" \
        CPPFLAGS=-DUSE_VALGRIND
    "${make[@]}" -C src all
    "${make[@]}" -C src install
    "${make[@]}" -C contrib/pgcrypto install
    cp src/tools/valgrind.supp "$("$1/bin/pg_config" --sharedir)/"
}

# make_server FOLDER VERSION: the stamp comes last, so that half a build is none.
make_server() {
    local major
    rm -rf -- "$1"
    major=$(sed -nE 's/^PostgreSQL ([0-9]+)[. ].*/\1/p' <<<"$("$PAYONCE_PG_CONFIG" --version)")
    fetch_source "postgresql-$major" "$2"
    build_server "$1"
    # It is SQL alone.
    cp -- "$("$PAYONCE_PG_CONFIG" --sharedir)"/extension/pgtap* \
        "$("$1/bin/pg_config" --sharedir)/extension/"
    echo "$stamp" >"$1/stamp"
    cd "$work"
    rm -rf -- "${work:?}/source"
}

use_installation pg
server=$work/asserts
version=$(package_version) || {
    complain "Not from a package, so its source is not at hand: $("$PAYONCE_PG_CONFIG" --bindir)"
    exit 1
}
stamp="$version ${configure_options[*]} $optimization"
if [ "$(cat "$server/stamp" 2>/dev/null)" != "$stamp" ]; then
    stage asserts "building PostgreSQL with assertions" make_server "$server" "$version"
fi
chosen=("$@")
[ "${#chosen[@]}" -gt 0 ] || chosen=("${usual_suites[@]}")
export PAYONCE_PG_CONFIG=$server/bin/pg_config
exec bash "$source_dir/scripts/lib/test_inside.sh" "${chosen[@]}"
