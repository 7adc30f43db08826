# Stand-in gateways (test/gateway) beside a scratch server. Sourced by demo_inside.sh.

# shellcheck shell=bash

readonly gateway_program=$source_dir/test/gateway/stand_in_gateway.py
readonly gateway_start_limit_s=20

# start_gateway NAME OPTION...: returns when it takes requests. Options are those of
# `stand_in_gateway.py serve`.
start_gateway() {
    local name=$1 deadline=$((SECONDS + gateway_start_limit_s)) log=$log_dir/gateway-$1.log
    shift
    python3 -B "$gateway_program" serve --name "$name" --ledger "$work/$name.ledger" \
        --port-file "$work/$name.port" "$@" >>"$log" 2>&1 </dev/null &
    until [ -e "$work/$name.port" ]; do
        if ! kill -0 $! 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; then
            complain "The stand-in gateway $name did not start."
            show_end_of "$log" 20
            return 1
        fi
        sleep 0.05
    done
}

# gateway_url NAME
gateway_url() {
    echo "http://127.0.0.1:$(cat "$work/$1.port")"
}

# gateway_ledger NAME OPTION...: what the gateway itself says of the money it moved.
gateway_ledger() {
    python3 -B "$gateway_program" ledger --ledger "$work/$1.ledger" "${@:2}"
}
