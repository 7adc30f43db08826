# Every notification of the providers' test vectors, handed to pay_notify in SQL. Each was made at a
# certain moment and is worth something for five minutes: the server runs under a clock that the test
# sets (libfaketime), so that it is the very code of every other server that judges them.
use strict;
use warnings;

use Cwd qw(abs_path);
use FindBin;
use lib "$FindBin::RealBin/lib";
use JSON::PP;
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::TestServer;

my $vectors = abs_path("$FindBin::RealBin/../vectors");
my ($faketime) = grep { -e } glob '/usr/lib/*/faketime/libfaketime.so.1';
my $clock = PostgreSQL::Test::Utils::tempdir() . '/clock';
my $json = JSON::PP->new->utf8->canonical;

# The server's clock stands still at this second.
sub set_clock
{
	my ($unix_s) = @_;
	my @t = gmtime $unix_s;
	my $time = sprintf '%04d-%02d-%02d %02d:%02d:%02d', $t[5] + 1900, $t[4] + 1, @t[3, 2, 1, 0];
	# In one step: a backend must not read half a time.
	unlink "$clock.new";
	append_to_file("$clock.new", "$time\n");
	rename "$clock.new", $clock or die "rename: $!";
	return;
}

my $server = Payonce::TestServer->new(
	'main',
	preload => 0,
	start => 0,
	settings => { autovacuum => 'off', timezone => 'UTC' });
set_clock(1768443630);
{
	local %ENV = (%ENV,
		LD_PRELOAD => $faketime,
		FAKETIME_TIMESTAMP_FILE => $clock,
		FAKETIME_NO_CACHE => 1,
		FAKETIME_DONT_FAKE_MONOTONIC => 1,
		TZ => 'UTC');
	$server->node->start;
}
$server->create_database;

sub read_vectors
{
	my ($file) = @_;
	return $json->decode(slurp_file("$vectors/$file"));
}

# A text as an SQL literal.
sub literal
{
	my ($text) = @_;
	$text =~ s/'/''/g;
	return "'$text'";
}

sub utf8_bytes
{
	my ($text) = @_;
	utf8::encode($text) if utf8::is_utf8($text);
	return $text;
}

# One order and its payment of this gateway, with refunds that were sent and accepted.
sub prepare
{
	my ($gateway, %order) = @_;
	$server->sql(<<"SQL");
INSERT INTO t_order (id, price, currency) VALUES ('O1', $order{amount}, '$order{currency}')
ON CONFLICT DO NOTHING;
INSERT INTO t_order_pay (id, order_id, price, currency, gateway)
VALUES ('P20260115000001', 'O1', $order{amount}, '$order{currency}', '$gateway');
SQL
	return;
}

my $paid_with_refunds = <<'SQL';
UPDATE t_order SET status = 100, paid_by = 'P20260115000001' WHERE id = 'O1';
UPDATE t_order_pay SET status = 100, transaction_id = '%s' WHERE id = 'P20260115000001';
INSERT INTO t_refund (refund_no, payment_id, amount, reason, status, attempts) VALUES
    ('PAYR20260115000001', 'P20260115000001', 1299, 'request', 200, 1),
    ('PAYR20260115000002', 'P20260115000001', 8700, 'request', 200, 1);
SQL

# notify(GATEWAY, NOW, HEADERS, BODY, before => SQL, after => SQL): what pay_notify answers, as
# "outcome status body", and what the query after it says; in a transaction that is undone.
sub notify
{
	my ($gateway, $now, $headers, $body, %params) = @_;
	set_clock($now);
	my $call = 'SELECT outcome, http_status, body FROM pay_notify(' . literal($gateway) . ', '
	  . literal($json->encode($headers)) . ', ' . literal(utf8_bytes($body)) . ')';
	my $answer = $server->sql(join ";\n",
		'BEGIN', $params{before} // (), $call, $params{after} // 'SELECT 1', 'ROLLBACK;');
	my ($said, $after) = split /\n/, $answer;
	return ($said, $after);
}

# What was booked.
my $books = q{SELECT (SELECT string_agg(status::text, ' ' ORDER BY id) FROM t_order_pay) || ' / '
	|| coalesce((SELECT string_agg(status::text, ' ' ORDER BY refund_no) FROM t_refund), '')
	|| ' / ' || (SELECT count(*) FROM t_stray_notification)};

sub check
{
	my ($name, $said, $after, $expected, $booked) = @_;
	is($said, $expected, "$name: the answer");
	is($after, $booked, "$name: what was booked");
	return;
}

# --- WeChat Pay

$server->sql(<<"SQL");
CREATE SERVER wechat FOREIGN DATA WRAPPER payonce_wechat OPTIONS (url 'https://api.mch.weixin.qq.com');
CREATE USER MAPPING FOR CURRENT_USER SERVER wechat OPTIONS (
    mchid '1900000001', appid 'wx1234567890abcdef',
    serial_no '3775B6A45ACD588826D15E583A95F5DD00000001',
    private_key_file '$vectors/wechat/merchant_private_key_pkcs8.pem',
    api_v3_key 'PayonceTestApiV3Key0123456789abc',
    public_key_id 'PUB_KEY_ID_0119000000012026011500000000001234',
    public_key_file '$vectors/wechat/wechatpay_public_key.pem',
    certificates_file '$vectors/wechat/platform_cert.pem');
SQL
prepare('wechat', amount => 9999, currency => 'CNY');

my $wechat_ok = '200|{"code":"SUCCESS","message":"OK"}';
my $wechat_refused = 'forged|400|{"code":"FAIL","message":"refused"}';
my %wechat_expected = (
	payment_amount_mismatch => ["mismatch|$wechat_ok", '500 /  / 0'],
	payment_currency_mismatch => ["mismatch|$wechat_ok", '500 /  / 0'],
	payment_unknown_order =>
	  [ 'unknown|500|{"code":"FAIL","message":"try again"}', '0 /  / 1' ],
	payment_not_paid => ["ignored|$wechat_ok", '0 /  / 0'],
	refund_success => ["refunded|$wechat_ok", '200 / 300 200 / 0'],
	refund_abnormal => ["refund_failed|$wechat_ok", '500 / 500 200 / 0'],
	refund_closed => ["refund_failed|$wechat_ok", '500 / 500 200 / 0'],
	refund_amount_mismatch => ["mismatch|$wechat_ok", '100 / 200 200 / 0'],
);
for my $vector (@{ read_vectors('wechat/verify_notifications.json')->{vectors} })
{
	my ($name, $kind) = @$vector{qw(name kind)};
	my $accepted = ($vector->{expect}{business} // '') eq 'accept';
	my $default =
	    $kind eq 'payment' && $accepted ? [ "paid|$wechat_ok", '100 /  / 0' ]
	  : [ $wechat_refused, $kind eq 'payment' ? '0 /  / 0' : '200 / 200 200 / 0' ];
	my ($said, $after) = notify('wechat', $vector->{now}, $vector->{headers}, $vector->{body},
		before => $kind eq 'refund'
		? sprintf($paid_with_refunds, '4200002026011500000000000001')
		: undef,
		after => $books);
	check("wechat $name", $said, $after, @{ $wechat_expected{$name} // $default });
}

# --- Alipay

for my $mode (qw(key certificate))
{
	my $keys = $mode eq 'key'
	  ? "alipay_public_key_file '$vectors/alipay/alipay_public_key_bare.txt'"
	  : join ', ', map { "${_}_file '$vectors/alipay/$_.pem'" }
	  qw(app_cert alipay_cert alipay_root_cert);
	$server->sql(<<"SQL");
CREATE SERVER alipay_$mode FOREIGN DATA WRAPPER payonce_alipay
    OPTIONS (url 'https://openapi.alipay.com/gateway.do');
CREATE USER MAPPING FOR CURRENT_USER SERVER alipay_$mode OPTIONS (
    app_id '2021000000000001', seller_id '2088000000000001',
    private_key_file '$vectors/alipay/app_private_key_pkcs1_bare.txt', $keys);
SQL
}
my %alipay_expected = (
	paid => [ 'paid|200|success', '100 /  / 0' ],
	not_paid => [ 'ignored|200|success', '0 /  / 0' ],
	closed_unpaid => [ 'failed|200|success', '400 /  / 0' ],
	refund_notice => [ 'refund_asked|200|success', '100 / 200 200 / 0' ],
	deposit_back_S => [ 'ignored|200|success', '0 /  / 0' ],
	amount_mismatch => [ 'mismatch|200|success', '500 /  / 0' ],
	unknown_order => [ 'unknown|500|fail', '0 /  / 1' ],
);
for my $mode (qw(key certificate))
{
	$server->sql("UPDATE t_order_pay SET gateway = 'alipay_$mode'");
	for my $vector (@{ read_vectors('alipay/verify_notifications.json')->{vectors} })
	{
		my ($name, $business) = ($vector->{name}, $vector->{expect}{business} // '');
		my ($said, $after) = notify("alipay_$mode", 1768443631, {}, $vector->{raw_body},
			before => $business eq 'refund_notice'
			? sprintf($paid_with_refunds, '2026011522001400000000000001')
			: undef,
			after => $books);
		check("alipay ($mode mode) $name", $said, $after,
			@{ $alipay_expected{$name} // $alipay_expected{$business}
				  // [ 'forged|400|fail', '0 /  / 0' ] });
	}
}

# --- Stripe

my $stripe = read_vectors('stripe/verify_webhooks.json');
$server->sql(<<"SQL");
CREATE SERVER stripe FOREIGN DATA WRAPPER payonce_stripe OPTIONS (url 'https://api.stripe.com');
CREATE USER MAPPING FOR CURRENT_USER SERVER stripe OPTIONS (
    secret_key 'sk_test_payonce_not_a_real_key', webhook_secret '$stripe->{secret}');
UPDATE t_order SET currency = 'USD';
UPDATE t_order_pay SET currency = 'USD', gateway = 'stripe';
SQL
my $stripe_ok = '200|{"received":true}';
my %stripe_expected = (
	paid => [ "paid|$stripe_ok", '100 /  / 0' ],
	refund_succeeded => [ "refunded|$stripe_ok", '200 / 300 200 / 0' ],
	refund_failed => [ "refund_failed|$stripe_ok", '500 / 500 200 / 0' ],
	refund_pending => [ "already_processed|$stripe_ok", '100 / 200 200 / 0' ],
	refund_hint => [ "ignored|$stripe_ok", '100 / 200 200 / 0' ],
	not_paid => [ "ignored|$stripe_ok", '0 /  / 0' ],
	unsupported_event => [ 'error|500|{"error":"try again"}', '0 /  / 0' ],
	amount_mismatch => [ "mismatch|$stripe_ok", '500 /  / 0' ],
	currency_mismatch => [ "mismatch|$stripe_ok", '500 /  / 0' ],
);
for my $vector (@{ $stripe->{vectors} })
{
	my ($name, $business) = ($vector->{name}, $vector->{expect}{business} // '');
	my ($said, $after) = notify('stripe', $vector->{now},
		{ 'STRIPE-signature' => $vector->{header} }, $vector->{body},
		before => $business =~ /^refund/
		? sprintf($paid_with_refunds, 'pi_3PayonceTest000000001')
		: undef,
		after => $books);
	# Five minutes, Stripe's own default, is not to be widened here.
	my $verified = $vector->{expect}{verify} eq 'ok' && $vector->{tolerance} == 300;
	check("stripe $name", $said, $after,
		@{ ($verified ? $stripe_expected{$name} // $stripe_expected{$business} : undef)
			  // [ 'forged|400|{"error":"refused"}', '0 /  / 0' ] });
}

done_testing();
