# Which Debian packages payonce needs to be built, shown and tested, and how missing ones are
# installed. Sourced by launch.sh, before anything else is known to be there: only what a minimal
# Debian has (bash, coreutils, dpkg) may be used here.

# shellcheck shell=bash

# @MAJOR@ is PostgreSQL's major version.
# shellcheck disable=SC2034 # each script uses some of the lists
{
    readonly build_packages=(
        make g++ libcurl4-openssl-dev libssl-dev nlohmann-json3-dev
        postgresql-@MAJOR@ postgresql-server-dev-@MAJOR@
    )
    # The stand-ins verify signatures with another library than payonce; psycopg2 is the example
    # application's.
    readonly gateway_packages=(python3 python3-psycopg2 python3-pycryptodome)
    readonly bench_packages=(
        cmake libbenchmark-dev libgtest-dev libnginx-mod-http-echo nginx openssl wrk
    )
    readonly test_packages=(
        cmake faketime libgtest-dev openssl perl libipc-run-perl
        postgresql-@MAJOR@-pgtap libtap-parser-sourcehandler-pgtap-perl
    )
    # For PostgreSQL's own source package; the headers of valgrind are compiled in.
    readonly assert_packages=(dpkg-dev libssl-dev valgrind zlib1g-dev)
    readonly simulate_packages=(cmake libgtest-dev)
    # llvm names the functions in a sanitizer's report.
    readonly fuzz_packages=(clang cmake libclang-rt-dev libgtest-dev llvm)
}

# find_pg_config: prints the pg_config to build with: the one of PG_CONFIG, or that of the newest
# PostgreSQL of which both the server and the development files are installed.
find_pg_config() {
    if [ -n "${PG_CONFIG:-}" ]; then
        command -v -- "$PG_CONFIG" && return
        echo "PG_CONFIG is '$PG_CONFIG', which is no program." >&2
        return 2
    fi
    local bindir
    while read -r bindir; do
        if [ -x "$bindir/postgres" ] && [ -x "$bindir/pg_config" ] &&
            [ -d "$bindir/../lib/pgxs" ]; then
            echo "$bindir/pg_config"
            return
        fi
    done < <(printf '%s\n' /usr/lib/postgresql/*/bin | sort --version-sort --reverse)
    return 1
}

# major_of PG_CONFIG: prints its major version if the package manager installed it: then the
# distribution has the matching packages.
major_of() {
    if [[ $("$1" --bindir) =~ ^/usr/lib/postgresql/([0-9]+)/bin$ ]]; then
        echo "${BASH_REMATCH[1]}"
    fi
}

# needed_packages MAJOR PACKAGE...: the names to look for. With a PostgreSQL that did not come from
# a package (MAJOR is empty), its owner has installed what belongs to it.
needed_packages() {
    local major=$1 package
    shift
    for package in "$@"; do
        if [ -n "$major" ]; then
            echo "${package//@MAJOR@/$major}"
        elif [[ $package != *@MAJOR@* ]]; then
            echo "$package"
        fi
    done
}

# missing_packages PACKAGE...: prints those that are not installed.
missing_packages() {
    local package
    for package in "$@"; do
        # shellcheck disable=SC2016 # ${...} is dpkg-query's
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
            echo "$package"
    done
}

# install_as_root PACKAGE...: the script comes through standard input, since root need not be able
# to read the folder it is in.
install_as_root() {
    local -a as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo --)
    "${as_root[@]}" bash -s -- "$@" <"$project_root/scripts/lib/install_packages.sh"
}

# ensure_packages PACKAGE...: installs what is missing, and sets `pg_config`.
ensure_packages() {
    local major missing status=0
    pg_config=$(find_pg_config) || status=$?
    [ "$status" -ne 2 ] || return 1
    # Not installed yet: which major version is the distribution's choice, asked for by root.
    major=@MAJOR@
    [ -z "$pg_config" ] || major=$(major_of "$pg_config")

    if command -v dpkg-query >/dev/null; then
        mapfile -t missing < <(needed_packages "$major" "$@")
        mapfile -t missing < <(missing_packages "${missing[@]}")
        if [ "${#missing[@]}" -gt 0 ]; then
            install_missing "${missing[@]}"
        fi
    fi
    pg_config=${pg_config:-$(find_pg_config)} || {
        complain "No PostgreSQL with its development files is installed; set PG_CONFIG to one's pg_config."
        return 1
    }
}

install_missing() {
    local can_install=no
    command -v apt-get >/dev/null && if [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null; then
        can_install=yes
    fi
    if [ "$can_install" = no ]; then
        complain "These Debian packages are missing; installing them needs apt-get, and root or sudo:"
        complain "    ${*//@MAJOR@/N}"
        return 1
    fi
    stage install "installing missing packages ($#)" install_as_root "$@"
}
