#!/bin/bash
# Installs Debian packages, as root: install_packages.sh PACKAGE...
#
# @MAJOR@ in a name becomes the major version of the distribution's PostgreSQL. No PostgreSQL
# cluster is created and no service started: Debian's packages of PostgreSQL and nginx would otherwise
# do so, and payonce's scripts must leave nothing running that was not there before.
set -euo pipefail

readonly cluster_settings=/etc/postgresql-common/createcluster.d
# What Debian's packages ask before they start a service.
readonly service_policy=/usr/sbin/policy-rc.d
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

created_files=()
created_folders=()
remove_created() {
    [ "${#created_files[@]}" -eq 0 ] || rm -f -- "${created_files[@]}"
    [ "${#created_folders[@]}" -eq 0 ] || rmdir -- "${created_folders[@]}" 2>/dev/null || true
}

# Settings of pg_createcluster are read from a folder of snippets; ours stays only while we install.
forbid_new_clusters() {
    local folder=$cluster_settings snippet
    while [ ! -d "$folder" ]; do
        created_folders+=("$folder")
        folder=$(dirname "$folder")
    done
    mkdir -p "$cluster_settings"
    snippet=$(mktemp "$cluster_settings/payonce-XXXXXX.conf")
    created_files+=("$snippet")
    chmod 0644 "$snippet"
    echo "create_main_cluster = false" >"$snippet"
}

# A policy that the machine has is its owner's.
forbid_service_starts() {
    [ ! -e "$service_policy" ] || return 0
    created_files+=("$service_policy")
    printf '#!/bin/sh\nexit 101\n' >"$service_policy"
    chmod 0755 "$service_policy"
}

# keep_from_booting SERVICE: after its package has been installed, which enables it.
keep_from_booting() {
    ! command -v systemctl >/dev/null || systemctl disable --quiet "$1" || true
}

update_package_lists
packages=("$@")
if [[ $* == *@MAJOR@* ]]; then
    major=$(default_major)
    packages=("${packages[@]//@MAJOR@/$major}")
fi
trap remove_created EXIT
forbid_new_clusters
forbid_service_starts
apt-get "${apt_options[@]}" install --yes --no-install-recommends "${packages[@]}"
# Only missing packages are asked for: an nginx that was there before is not among them.
[[ " ${packages[*]} " != *' nginx '* ]] || keep_from_booting nginx.service
