# Private copies of a PostgreSQL installation, and servers that run from them.
# Sourced by inside.sh.
#
# payonce is never installed into the system's PostgreSQL, for which root would be needed, and
# which may serve somebody. PostgreSQL finds its libraries and extensions relative to where its
# own program file lies. So the programs are copied (13 MB), everything else is linked to, file by
# file, and `make install` adds its files beside the links.

# shellcheck shell=bash

build_jobs=$(nproc)
readonly build_jobs

# use_installation NAME: the private copy that all functions below work with. Sets `pg_root`,
# `pg_bin` and `pg_config`.
use_installation() {
    pg_root=$work/$1
    pg_bin=$pg_root$("$PAYONCE_PG_CONFIG" --bindir)
    pg_config=$pg_bin/pg_config
    PATH=$pg_bin:/usr/local/bin:/usr/bin:/bin
    export PATH
}

# copy_installation: makes the copy, under the same paths as in the original. What the original
# has of payonce stays out of it.
copy_installation() {
    local folder kind
    rm -rf -- "${pg_root:?}"
    folder=$("$PAYONCE_PG_CONFIG" --bindir)
    mkdir -p "$pg_root$folder"
    cp -a -- "$folder/." "$pg_root$folder/"
    for kind in --pkglibdir --sharedir --includedir --pkgincludedir --includedir-server --libdir; do
        folder=$("$PAYONCE_PG_CONFIG" "$kind")
        case $kind in
            --pkglibdir | --sharedir)
                mkdir -p "$pg_root$folder"
                cp -as -- "$folder/." "$pg_root$folder/"
                ;;
            *) link_folder "$folder" ;;
        esac
    done
    find "$pg_root" -name 'payonce*' -exec rm -rf {} +
    [ "$("$pg_config" --sharedir)" = "$pg_root$("$PAYONCE_PG_CONFIG" --sharedir)" ]
}

# link_folder FOLDER: nothing is installed there, so that the folder itself can be linked to,
# unless a part of it was copied already.
link_folder() {
    local entry
    if [ -L "$pg_root$1" ] || [ ! -d "$1" ]; then
        return
    elif [ ! -e "$pg_root$1" ]; then
        mkdir -p "$(dirname "$pg_root$1")"
        ln -s "$1" "$pg_root$1"
    else
        for entry in "$1"/*; do
            [ -e "$pg_root$entry" ] || ln -s "$entry" "$pg_root$entry"
        done
    fi
}

# build_and_install FOLDER MAKE_VARIABLE...: builds payonce in a folder with its sources, and
# installs it into the copy.
build_and_install() {
    local folder=$1
    shift
    make -C "$folder" --silent -j"$build_jobs" PG_CONFIG="$pg_config" "$@" all
    make -C "$folder" --silent PG_CONFIG="$pg_config" "$@" install
}

# build_payonce: makes the installation that everything but one test suite uses.
build_payonce() {
    use_installation pg
    stage build "copying $("$PAYONCE_PG_CONFIG" --version)" copy_installation
    stage build "building payonce" build_and_install "$source_dir"
}

# create_cluster SETTING...: makes $work/data anew. Only processes of this user can reach it.
create_cluster() {
    rm -rf -- "${work:?}/data"
    "$pg_bin/initdb" --pgdata="$work/data" --username=postgres --auth=trust --encoding=UTF8 \
        --locale=C.UTF-8 --no-sync --no-instructions
    {
        echo "listen_addresses = ''"
        echo "unix_socket_directories = '$work/socket'"
        echo "log_line_prefix = '%m [%p] %q%a '"
        printf '%s\n' "$@"
    } >>"$work/data/postgresql.conf"
}

# start_server SETTING...: a new cluster with these lines in its postgresql.conf, started. Its
# socket is in a folder of its own: no port can be taken. Clients find it through the environment.
export PGHOST=$work/socket PGPORT=5432 PGUSER=postgres PGDATABASE=postgres
start_server() {
    create_cluster "$@" >>"$log_dir/server.log"
    "$pg_bin/pg_ctl" start --silent --wait --pgdata="$work/data" --log="$log_dir/server.log" || {
        tail -n 30 "$log_dir/server.log"
        return 1
    }
}

stop_server() {
    "$pg_bin/pg_ctl" stop --silent --wait --pgdata="$work/data" --mode=fast
}
