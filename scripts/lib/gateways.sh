# Stand-in gateways (test/gateway), and the application that takes their notifications (examples),
# beside a scratch server. Sourced by demo_inside.sh.

# shellcheck shell=bash

readonly gateway_program=$source_dir/test/gateway/stand_in_gateway.py
readonly notify_program=$source_dir/examples/notify_server.py
readonly gateway_start_limit_s=20

# wait_for_port NAME PID LOG: until the program has written where it takes requests.
wait_for_port() {
    local deadline=$((SECONDS + gateway_start_limit_s))
    until [ -e "$work/$1.port" ]; do
        if ! kill -0 "$2" 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; then
            complain "$1 did not start."
            show_end_of "$3" 20
            return 1
        fi
        sleep 0.05
    done
}

# start_notify_server: the example application, connected to the server that PGHOST and PGPORT name.
start_notify_server() {
    local log=$log_dir/notify_server.log
    python3 -B "$notify_program" --port-file "$work/notify_server.port" >>"$log" 2>&1 </dev/null &
    wait_for_port notify_server $! "$log"
}

# notify_url GATEWAY
notify_url() {
    echo "http://127.0.0.1:$(cat "$work/notify_server.port")/notify/$1"
}

# start_gateway NAME OPTION...: returns when it takes requests. Options are those of
# `stand_in_gateway.py serve`.
start_gateway() {
    local name=$1 log=$log_dir/gateway-$1.log
    shift
    python3 -B "$gateway_program" serve --name "$name" --ledger "$work/$name.ledger" \
        --port-file "$work/$name.port" "$@" >>"$log" 2>&1 </dev/null &
    wait_for_port "$name" $! "$log"
}

# gateway_admin NAME PATH JSON: what an administrator, or in a test the customer, does there.
gateway_admin() {
    python3 -B - "$(gateway_url "$1")$2" "$3" <<'END'
import sys, urllib.request
urllib.request.urlopen(urllib.request.Request(sys.argv[1], sys.argv[2].encode(), method="POST"))
END
}

# gateway_url NAME
gateway_url() {
    echo "http://127.0.0.1:$(cat "$work/$1.port")"
}

# gateway_has_no_news NAME: whether all that it had to say was acknowledged.
gateway_has_no_news() {
    python3 -B - "$(gateway_url "$1")/admin/notifications" <<'END'
import json, sys, urllib.request
told = json.load(urllib.request.urlopen(sys.argv[1]))
sys.exit(not all(one["acknowledged"] for one in told))
END
}

# gateway_ledger NAME OPTION...: what the gateway itself says of the money it moved.
gateway_ledger() {
    python3 -B "$gateway_program" ledger --ledger "$work/$1.ledger" "${@:2}"
}
