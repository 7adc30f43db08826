#!/bin/bash
# Installs Debian packages, as root: install_packages.sh PACKAGE...
#
# @MAJOR@ in a name becomes the major version of the distribution's PostgreSQL. No PostgreSQL
# cluster is created: Debian's server package would otherwise make and start one, and payonce's
# demo and tests must leave nothing running that was not there before.
set -euo pipefail

readonly cluster_settings=/etc/postgresql-common/createcluster.d
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
# Removing a package to make room for ours is never right on somebody's machine.
readonly apt_options=(
    -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 -o APT::Get::Remove=false
)

# `apt-get update` has no option that waits for another one to finish.
update_package_lists() {
    local attempt
    for attempt in 1 2 3 4 5; do
        apt-get "${apt_options[@]}" update && return
        echo "apt-get update failed (attempt $attempt)"
        sleep 3
    done
    echo "going on with the package lists that are there"
}

default_major() {
    local package
    package=$(apt-cache depends postgresql | sed -n 's/^ *Depends: \(postgresql-[0-9]*\)$/\1/p')
    [ -n "$package" ] || {
        echo "apt knows no package 'postgresql'" >&2
        return 1
    }
    echo "${package#postgresql-}"
}

# Settings of pg_createcluster are read from a folder of snippets; ours stays only while we install.
forbid_new_clusters() {
    local folder=$cluster_settings created=()
    while [ ! -d "$folder" ]; do
        created+=("$folder")
        folder=$(dirname "$folder")
    done
    mkdir -p "$cluster_settings"
    snippet=$(mktemp "$cluster_settings/payonce-XXXXXX.conf")
    chmod 0644 "$snippet"
    echo "create_main_cluster = false" >"$snippet"
    # shellcheck disable=SC2064 # the names are known now
    trap "rm -f '$snippet'; rmdir ${created[*]@Q} 2>/dev/null || true" EXIT
}

update_package_lists
packages=("$@")
if [[ $* == *@MAJOR@* ]]; then
    major=$(default_major)
    packages=("${packages[@]//@MAJOR@/$major}")
fi
forbid_new_clusters
apt-get "${apt_options[@]}" install --yes --no-install-recommends "${packages[@]}"
