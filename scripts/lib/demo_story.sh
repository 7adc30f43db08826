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
# The gateway then notifies the application, signed and, if it is WeChat Pay, encrypted.
pays() {
    say "$1 pays $(yuan $price_fen) through $2: the gateway has the money, and notifies the application."
    gateway_admin "$2" /admin/payments \
        "{\"payment_id\":\"$3\",\"amount\":$price_fen,\"currency\":\"CNY\",\"notify\":true}"
}

# notifications_heard: how many the application has answered so far.
notifications_heard() {
    grep -c '^/notify/' "$log_dir/notify_server.log" || true
}

# show_heard BEFORE COUNT: waits for so many notifications after the first BEFORE ones, and shows
# what the application had pay_notify decide, and answered.
show_heard() {
    local deadline=$((SECONDS + settle_limit_s)) gateway status outcome
    until [ "$(notifications_heard)" -ge $(($1 + $2)) ]; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            complain "No notification came within $settle_limit_s s."
            return 1
        fi
        sleep 0.05
    done
    while read -r gateway status outcome; do
        say "${dim}application:$plain ${yellow}SELECT * FROM pay_notify('${gateway#/notify/}', headers, body)$plain says $bold$outcome$plain, HTTP $status goes back"
    done < <(grep '^/notify/' "$log_dir/notify_server.log" | tail -n +$(($1 + 1)) | head -n "$2")
}

# repeats GATEWAY PAYMENT [SIGNATURE]: the gateway sends the news of a payment again.
repeats() {
    gateway_admin "$1" /admin/notify \
        "{\"kind\":\"payment\",\"payment_id\":\"$2\",\"signature\":\"${3:-good}\"}"
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

# wait_until_quiet: until the gateways have an answer to all that they had to say.
wait_until_quiet() {
    local name deadline=$((SECONDS + settle_limit_s))
    for name in wechat alipay; do
        until gateway_has_no_news "$name"; do
            if [ "$SECONDS" -ge "$deadline" ]; then
                complain "The notifications of $name were not acknowledged within $settle_limit_s s."
                return 1
            fi
            sleep 0.05
        done
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

# What a merchant gets from the providers, here from the test keys.
prepare_gateways() {
    local keys=$source_dir/test/vectors
    start_notify_server
    start_gateway wechat --protocol wechat --keys "$keys/wechat" --notify-url "$(notify_url wechat)" \
        --mode '{"mode": "processing", "http_status": 200, "after_ms": 300}'
    start_gateway alipay --protocol alipay --keys "$keys/alipay" --notify-url "$(notify_url alipay)"
    run_psql <<END
CREATE SERVER wechat FOREIGN DATA WRAPPER payonce_wechat
    OPTIONS (url '$(gateway_url wechat)', notify_url '$(notify_url wechat)');
CREATE USER MAPPING FOR CURRENT_USER SERVER wechat OPTIONS (
    mchid '1900000001', serial_no '3775B6A45ACD588826D15E583A95F5DD00000001',
    private_key_file '$keys/wechat/merchant_private_key_pkcs8.pem',
    api_v3_key 'PayonceTestApiV3Key0123456789abc',
    public_key_id 'PUB_KEY_ID_0119000000012026011500000000001234',
    public_key_file '$keys/wechat/wechatpay_public_key.pem');
CREATE SERVER alipay FOREIGN DATA WRAPPER payonce_alipay
    OPTIONS (url '$(gateway_url alipay)/gateway.do');
CREATE USER MAPPING FOR CURRENT_USER SERVER alipay OPTIONS (
    app_id '2021000000000001', private_key_file '$keys/alipay/app_private_key_pkcs8.pem',
    alipay_public_key_file '$keys/alipay/alipay_public_key.pem');
END
    printf '%s\n' "Stand-ins for WeChat Pay and Alipay speak their protocols, and check every signature." \
        "An application of a few lines (examples/notify_server.py) hands their notifications to SQL."
}

two_phones() {
    local before
    step "An order of $(yuan $price_fen), and two phones that both want to pay it"
    sql "INSERT INTO t_order (id, price) VALUES ('P1', $price_fen);"
    sql "INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES ('P1-phone1', 'P1', $price_fen, 'wechat');"
    sql "INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES ('P1-phone2', 'P1', $price_fen, 'alipay');"
    step 'Both pay at the same time'
    before=$(notifications_heard)
    pays 'Phone 1' wechat P1-phone1 &
    pays 'Phone 2' alipay P1-phone2
    wait $!
    show_heard "$before" 2
    say "The order keeps $(run_psql --command "SELECT paid_by FROM t_order WHERE id = 'P1'"); the worker sends the other's money back."
    wait_until_settled
    wait_until_quiet
    show_tables P1
    show_ledgers
}

failure_then_success() {
    local before
    step 'News of failure, then of success: the money did arrive, so it counts'
    sql "INSERT INTO t_order (id, price) VALUES ('P2', $price_fen);"
    sql "INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES ('P2-phone1', 'P2', $price_fen, 'wechat');"
    sql "SELECT pay_callback_outcome('P2-phone1', false);"
    before=$(notifications_heard)
    pays 'Phone 1' wechat P2-phone1
    show_heard "$before" 1
    wait_until_quiet
    show_tables P2
    show_ledgers
}

late_payment() {
    local before
    step 'A payment that comes after its order was closed: WeChat Pay accepts the refund, and says later that it is done'
    sql "INSERT INTO t_order (id, price) VALUES ('P3', $price_fen);"
    sql "INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES ('P3-phone1', 'P3', $price_fen, 'wechat');"
    sql "SELECT order_close('P3');"
    before=$(notifications_heard)
    pays 'Phone 1' wechat P3-phone1
    show_heard "$before" 2
    wait_until_settled
    wait_until_quiet
    show_tables P3
    show_ledgers
}

repeated_notification() {
    local before
    step 'Gateways repeat their notifications, and strangers forge some: nothing happens twice, or at all'
    before=$(notifications_heard)
    repeats wechat P1-phone1
    show_heard "$before" 1
    before=$(notifications_heard)
    repeats alipay P1-phone2
    show_heard "$before" 1
    before=$(notifications_heard)
    repeats wechat P2-phone1 stranger
    show_heard "$before" 1
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
