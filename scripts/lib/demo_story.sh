# The story that payonce exists for: one order, two phones, two gateways. Sourced by demo_inside.sh, which
# has a server with payonce running; stand-in gateways are started and asked here.

# shellcheck shell=bash

readonly settle_limit_s=30
readonly price_fen=3200
readonly codes='orders: 0 unpaid, 100 paid, 400 closed · payments: 0 paying, 100 paid, 200 refunding, 300 refunded, 400 failed · refunds: 300 refunded'

step_number=0

# step TEXT: what happens next, in the words of somebody who stands beside it.
step() {
    step_number=$((step_number + 1))
    printf '\n%s%d. %s%s\n' "$bold" "$step_number" "$1" "$plain"
}

say() {
    printf '   %s\n' "$*"
}

# run_psql ARGUMENT...: unaligned, for the story's own use.
run_psql() {
    psql --no-psqlrc --quiet --no-align --tuples-only --set ON_ERROR_STOP=1 "$@"
}

# sql STATEMENT: shows the statement and what it answers.
sql() {
    printf '   %s%s%s\n' "$yellow" "$1" "$plain"
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --pset footer=off --pset null=- --command "$1" |
        sed -e '/^$/d' -e 's/^/     /'
}

yuan() {
    printf '¥%d.%02d' $(($1 / 100)) $(($1 % 100))
}

# pays PHONE GATEWAY PAYMENT: the customer's money arrives at the gateway; no merchant can prevent it.
pays() {
    local body
    body="{\"payment_id\":\"$3\",\"amount\":$price_fen,\"currency\":\"CNY\",\"transaction_id\":\"$2-$3\"}"
    python3 -B - "$(gateway_url "$2")/admin/payments" "$body" <<'END'
import sys, urllib.request
urllib.request.urlopen(urllib.request.Request(sys.argv[1], sys.argv[2].encode(), method="POST"))
END
    say "$1 pays $(yuan $price_fen) through $2: the gateway has the money."
}

# deliver GATEWAY PAYMENT: a callback, as an application passes it on.
deliver() {
    sql "SELECT pay_callback_outcome('$2', true, $price_fen, 'CNY', '$1-$2');"
}

# hold_until_both_wait: takes a lock and lets go once two others wait for it.
hold_until_both_wait() {
    # shellcheck disable=SC2016 # the dollars are SQL's
    run_psql --command 'SELECT pg_advisory_lock(0)' --command 'DO $$ BEGIN
        WHILE (SELECT count(*) FROM pg_locks WHERE locktype = $l$advisory$l$ AND NOT granted) < 2 LOOP
            PERFORM pg_sleep(0.01);
        END LOOP; END $$' >/dev/null
}

# deliver_both CALL CALL: on two connections at the same time. Both wait for the lock that a third one
# holds, so that they are let go together.
deliver_both() {
    local number=0 call jobs=()
    hold_until_both_wait &
    jobs+=($!)
    until [ "$(run_psql --command "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")" = 1 ]; do
        sleep 0.01
    done
    for call in "$@"; do
        number=$((number + 1))
        run_psql --command 'SELECT pg_advisory_lock_shared(0)' --command "$call" >"$work/answer-$number" &
        jobs+=($!)
        printf '   %sconnection %d:%s %s%s%s\n' "$dim" "$number" "$plain" "$yellow" "$call" "$plain"
    done
    wait "${jobs[@]}"
    for number in 1 2; do
        say "connection $number answers $(tail -n 1 "$work/answer-$number"): recorded, acknowledge it to the gateway"
    done
}

# wait_until_settled: until no refund is on its way any more.
wait_until_settled() {
    local deadline=$((SECONDS + settle_limit_s))
    until [ "$(run_psql --command 'SELECT count(*) FROM payonce_refund_backlog')" = 0 ]; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            complain "The refunds were not settled within $settle_limit_s s:"
            sql 'TABLE payonce_refund_backlog;'
            return 1
        fi
        sleep 0.05
    done
}

# show_tables ORDER: what the database says.
show_tables() {
    sql "SELECT id, price, status, paid_by FROM t_order WHERE id = '$1';"
    sql "SELECT id, gateway, status, paid_amount, refund_reserved FROM t_order_pay WHERE order_id = '$1' ORDER BY id;"
    sql "SELECT refund_no, amount, reason, gateway, status, attempts FROM t_refund WHERE payment_id LIKE '$1-%';"
    say "$dim($codes)$plain"
}

# show_ledgers: what the gateways say.
show_ledgers() {
    local name
    for name in wechat alipay; do
        printf '   %sledger of %s:%s%s\n' "$dim" "$name" "$plain" \
            "$(gateway_ledger "$name" |
                sed -n -e 's/^ *money in  */ in /p' -e 's/^ *sent back  */, sent back /p' | tr -d '\n')"
    done
}

prepare_gateways() {
    local name
    for name in wechat alipay; do
        start_gateway "$name"
        run_psql --command "CREATE SERVER $name FOREIGN DATA WRAPPER payonce_http OPTIONS (url '$(gateway_url "$name")')"
    done
}

two_phones() {
    step "An order of $(yuan $price_fen), and two phones that both want to pay it"
    sql "INSERT INTO t_order (id, price) VALUES ('P1', $price_fen);"
    sql "INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES ('P1-phone1', 'P1', $price_fen, 'wechat');"
    sql "INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES ('P1-phone2', 'P1', $price_fen, 'alipay');"
    step 'Phone 2 pays, and so does phone 1'
    pays 'Phone 2' alipay P1-phone2
    pays 'Phone 1' wechat P1-phone1
    step 'Both gateways call back at the same time, on two connections'
    deliver_both "SELECT pay_callback('P1-phone1', true, $price_fen, 'CNY', 'wechat-P1-phone1');" \
        "SELECT pay_callback('P1-phone2', true, $price_fen, 'CNY', 'alipay-P1-phone2');"
    say "The order keeps $(run_psql --command "SELECT paid_by FROM t_order WHERE id = 'P1'"); the worker sends the other's money back."
    wait_until_settled
    show_tables P1
    show_ledgers
}

failure_then_success() {
    step 'News of failure, then of success: the money did arrive, so it counts'
    sql "INSERT INTO t_order (id, price) VALUES ('P2', $price_fen);"
    sql "INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES ('P2-phone1', 'P2', $price_fen, 'wechat');"
    sql "SELECT pay_callback_outcome('P2-phone1', false);"
    pays 'Phone 1' wechat P2-phone1
    deliver wechat P2-phone1
    show_tables P2
    show_ledgers
}

late_payment() {
    step 'A payment that comes after its order was closed'
    sql "INSERT INTO t_order (id, price) VALUES ('P3', $price_fen);"
    sql "INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES ('P3-phone2', 'P3', $price_fen, 'alipay');"
    sql "SELECT order_close('P3');"
    pays 'Phone 2' alipay P3-phone2
    deliver alipay P3-phone2
    wait_until_settled
    show_tables P3
    show_ledgers
}

repeated_notification() {
    step 'Gateways repeat their notifications: nothing happens twice'
    deliver wechat P1-phone1
    deliver alipay P1-phone2
    deliver alipay P3-phone2
    show_ledgers
    sql 'SELECT * FROM payonce_check();'
    say 'payonce_check() finds no broken invariant.'
    [ "$(run_psql --command 'SELECT count(*) FROM payonce_check()')" = 0 ]
}

# verdict: judged by the gateways' own ledgers, not by payonce's tables.
verdict() {
    step "What the gateways' own ledgers say in the end"
    local name kept
    for name in wechat alipay; do
        gateway_ledger "$name" | sed 's/^/   /'
        gateway_ledger "$name" --json >"$work/$name.json"
    done
    kept=$(run_psql --command 'SELECT sum(price) FROM t_order WHERE status = 100')
    python3 -B "$source_dir/scripts/lib/demo_verdict.py" "$kept" "$work/wechat.json" "$work/alipay.json" \
        >"$work/verdict" || {
        complain "$(cat "$work/verdict")"
        return 1
    }
    printf '\n%s%s%s%s\n' "$bold" "$green" "$(cat "$work/verdict")" "$plain"
}

tell_story() {
    run_psql --command 'CREATE EXTENSION payonce'
    prepare_gateways
    two_phones
    failure_then_success
    late_payment
    repeated_notification
    verdict
}
