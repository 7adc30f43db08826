# WeChat Pay's notifications of payments and refunds, sent to the example application, which hands
# them to pay_notify: once or five times at the same time, late, lost, forged, contradicting. What is
# asked about after its first answer is asked about hours later here, so whatever ends a refund is
# the notification.
use strict;
use warnings;

use FindBin;
use JSON::PP ();
use lib "$FindBin::RealBin/lib";
use Test::More;
use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::NotifyServer;
use Payonce::TestServer;

my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my $ok = '{"code":"SUCCESS","message":"OK"}';

my $server = Payonce::TestServer->new(
	'main',
	settings => { 'payonce.retry_delay' => '1h', 'payonce.retry_delay_max' => '1h' });
$server->wait_for_worker;
my $application = Payonce::NotifyServer->new($server);
my $wechat = Payonce::Gateway->new('wechat', protocol => 'wechat',
	options => [ '--notify-url', $application->url('wechat') ]);
my %keys = Payonce::TestServer::keys_of('wechat');
$server->add_gateway($wechat, notify_url => $application->url('wechat'));
$server->map_user('wechat', %keys, appid => 'wx1234567890abcdef');
# Refunds are accepted, and wait for the script's word.
$wechat->mode({ mode => 'processing' });

# Orders of one price, with payments "ID-1", "ID-2" ... which nobody has paid yet.
sub add_unpaid
{
	my ($payments, @ids) = @_;
	$server->sql(join ";\n",
		map {
			my $id = $_;
			("INSERT INTO t_order (id, price) VALUES ('$id', 3200)",
				map "INSERT INTO t_order_pay (id, order_id, price, gateway)"
				  . " VALUES ('$id-$_', '$id', 3200, 'wechat')",
				1 .. $payments)
		} @ids);
	return;
}

# Customers pay, and WeChat says so.
sub pay
{
	my ($payments, %more) = @_;
	$wechat->add_payments(
		map +{ payment_id => $_, amount => 3200, currency => 'CNY', notify => $true, %more },
		@$payments);
	return;
}

# Waits until all of it was acknowledged, and returns what pay_notify made of what is new: sorted,
# as "STATUS OUTCOME", each with how often it was.
my $seen = 0;

sub told
{
	$wechat->wait_acknowledged;
	return said();
}

sub said
{
	my @answers = $application->answers('wechat');
	my %count;
	$count{ s/^\S+ //r }++ for @answers[ $seen .. $#answers ];
	$seen = @answers;
	return join ', ', map { "$count{$_} x $_" } sort keys %count;
}

sub status_of
{
	my ($id) = @_;
	return $server->sql("SELECT status FROM t_order_pay WHERE id = '$id'");
}

sub why
{
	my ($id) = @_;
	return $server->sql("SELECT why FROM payonce_attention WHERE id = '$id'");
}

sub slurp_log { return slurp_file($server->node->logfile); }

# Until so many tries to tell of a payment were answered.
sub wait_tries
{
	my ($payment_id, $count) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	while (($wechat->notifications(payment_id => $payment_id))[0]{tries} < $count)
	{
		die "$payment_id: not told $count times" if time > $deadline;
		sleep 0.05;
	}
	return;
}

# --- Payments

add_unpaid(2, 'plain');
pay(['plain-1']);
is(told(), '1 x 200 paid', 'a payment is announced, and decided');
my ($news) = $wechat->notifications(payment_id => 'plain-1');
is($news->{last_body}, $ok, 'and acknowledged in the words that WeChat wants');
is($server->sql("SELECT o.status, paid_by, transaction_id, paid_amount, paid_currency FROM t_order o"
		. " JOIN t_order_pay p ON p.id = paid_by WHERE o.id = 'plain'"),
	"100|plain-1|$news->{content}{transaction_id}|3200|CNY", 'as the notification said');
pay(['plain-2']);
is(told(), '1 x 200 duplicate', 'the second payment of the order is a duplicate');
$server->wait_status(200, 'plain-2-R1');

$wechat->notify({ kind => 'payment', payment_id => $_, times => 3, parallel => $true })
  for 'plain-1', 'plain-2';
is(told(), '6 x 200 already_processed', 'repetitions are acknowledged, and change nothing');

# All of an order's payments at the same time, each five times at the same time.
my @crowd = map { "crowd$_" } 1 .. 8;
add_unpaid(3, @crowd);
$wechat->faults({ fault => 'notify_duplicated', match => '^crowd', times => 5, parallel => $true });
pay([ map { ("$_-1", "$_-2", "$_-3") } @crowd ]);
is(told(), '96 x 200 already_processed, 16 x 200 duplicate, 8 x 200 paid',
	'of all that come at the same time one wins, and each is decided once');
is($server->sql("SELECT count(*), count(DISTINCT payment_id) FROM t_refund"
		. " WHERE payment_id LIKE 'crowd%'"), '16|16', 'and each of the others goes back once');

# Forged, in every way; the true one follows.
my @ways = qw(stranger none probe unknown_serial stale);
add_unpaid(1, map { "forged-$_" } @ways);
$wechat->faults(map +{ fault => 'notify_forged', how => $_, match => "^forged-$_" }, @ways);
pay([ map { "forged-$_-1" } @ways ]);
is(told(), '5 x 200 paid, 5 x 400 forged', 'a forgery is refused, what is genuine is believed');
my ($forgery) = grep { $_->{tries} == 2 } $wechat->notifications(payment_id => 'forged-stranger-1');
ok($forgery, 'the first was refused');
$wechat->faults();
my $log = slurp_log();
like($log, qr/was refused.*\n.*\Q$_\E/, "the log says: $_")
  for 'was not made with the key', 'is missing, repeated or malformed', 'a deliberate probe',
  'which neither public_key_id nor certificates has', '300 s are too many';

# Of another appid; of another merchant.
add_unpaid(1, 'other');
my @others = map {
	$wechat->notify({
		kind => 'payment', payment_id => 'other-1', amount => 3200, currency => 'CNY',
		deliver => $false, changes => $_
	})->{notifications}[0]
} { appid => 'wxffffffffffffffff' }, { mchid => '1900000009' };

sub hand_over
{
	my ($message) = @_;
	my ($headers, $body) = map { s/'/''/gr } JSON::PP->new->encode($message->{headers}),
	  $message->{body};
	return $server->sql("SELECT outcome, http_status FROM pay_notify('wechat', '$headers', '$body')");
}

is(join(' ', map { hand_over($_) } @others), 'forged|400 forged|400',
	'news for another appid or another merchant is refused');
is(status_of('other-1'), 0, 'and changes nothing');
pay(['other-1']);
is(told(), '1 x 200 paid', 'the right one is believed');

# Nothing that says that it was not paid is a payment; a success after a failure is.
add_unpaid(1, 'moody');
for my $state ('NOTPAY', 'USERPAYING', 'PAYERROR')
{
	$wechat->notify({
		kind => 'payment', payment_id => 'moody-1', amount => 3200, currency => 'CNY',
		changes => { trade_state => $state }
	});
}
is(told(), '1 x 200 failed, 2 x 200 ignored', 'of what was not paid, failures are recorded');
is(status_of('moody-1'), 400, 'the payment failed');
pay(['moody-1']);
is(told(), '1 x 200 paid', 'and succeeds all the same');

# The application does not know the payment yet; and it is away.
pay(['early-1']);
$server->wait_for("SELECT EXISTS (SELECT FROM payonce_attention"
	. " WHERE kind = 'stray_notification' AND id = 'early-1')", 'it is kept for a person');
my ($stray) = $wechat->notifications(payment_id => 'early-1');
is($stray->{acknowledged}, $false, 'what is not known is not acknowledged');
like(why('early-1'), qr/"out_trade_no":"early-1"/, 'but kept, with all that it says');
add_unpaid(1, 'early');
like(told(), qr/^1 x 200 paid, \d+ x 500 unknown$/, 'it comes again until its payment is there');
is(status_of('early-1'), 100, 'and then pays its order');
is($server->sql("SELECT count(*), count(handled_at), min(note) FROM t_stray_notification"),
	'1|1|it came again, and its payment was there', 'what was kept has been dealt with');
$application->stop;
add_unpaid(1, 'away');
pay(['away-1']);
$application->start;
like(told(), qr/1 x 200 paid/, 'what comes while the application is away comes again');

# Of another amount than the payment's: it goes back as it came.
add_unpaid(1, 'less');
pay(['less-1'], amount => 3100);
is(told(), '1 x 200 mismatch', 'another amount pays nothing');
is(status_of('less-1'), 500, 'it waits for a person');
is($server->sql("SELECT payment_resolve('less-1', 'refund', 'too little')"), 'less-1-R1',
	'who has it sent back');

# --- The API v3 key is changed at WeChat, and later here

$server->sql(q{ALTER USER MAPPING FOR CURRENT_USER SERVER wechat
	OPTIONS (SET api_v3_key 'PayonceTestApiV3Key0123456789xyz')});
add_unpaid(1, 'sealed');
pay(['sealed-1']);
wait_tries('sealed-1', 2);
is(status_of('sealed-1'), 0, 'what cannot be read is not believed');
like(slurp_log(), qr/cannot be decrypted: api_v3_key is not the key of this merchant/,
	'the log says why');
$server->sql(q{ALTER USER MAPPING FOR CURRENT_USER SERVER wechat OPTIONS (DROP api_v3_key)});
wait_tries('sealed-1', 2 + ($wechat->notifications(payment_id => 'sealed-1'))[0]{tries});
$server->sql("ALTER USER MAPPING FOR CURRENT_USER SERVER wechat"
	. " OPTIONS (ADD api_v3_key '$keys{api_v3_key}')");
like(told(), qr/^1 x 200 paid, (?=.*x 400 forged)(?=.*x 500 error)/,
	'with the right key the repetition is');

# --- Refunds. "plain-2-R1" and those of the crowd are accepted.

my @accepted = map { "$_-R1" } 'plain-2', 'less-1', split /\n/,
  $server->sql("SELECT payment_id FROM t_refund WHERE payment_id LIKE 'crowd%'");
$server->wait_status(200, @accepted);
my ($plain, $less, @of_crowd) = @accepted;
said();
$wechat->settle($plain, 'SUCCESS');
is(told(), '1 x 200 refunded', 'a refund that succeeds is announced');
is($server->refund_status($plain), 300, 'and done');
is($server->calls($plain), 'refund processing', 'without a question');
is($server->sql("SELECT gateway_refund_id LIKE '50000%' FROM t_refund WHERE refund_no = '$plain'"),
	't', "WeChat's number of it is kept");
$wechat->settle($less, 'SUCCESS');
is(told(), '1 x 200 refunded', 'what arrived went back');

# Five times at the same time; not before the next one; forged first.
$wechat->faults(
	{ fault => 'notify_duplicated', match => "^$of_crowd[0]\$", times => 5, parallel => $true },
	{ fault => 'notify_reordered', match => "^$of_crowd[1]\$" },
	{ fault => 'notify_forged', match => "^$of_crowd[2]\$" },
	{ fault => 'notify_lost', match => "^$of_crowd[3]\$" },
	{ fault => 'notify_duplicated', times => 2 });
$wechat->settle($of_crowd[0], 'SUCCESS');
is(told(), '4 x 200 already_processed, 1 x 200 refunded', 'five times at once is once');
$wechat->settle($of_crowd[1], 'SUCCESS');
$wechat->settle($of_crowd[2], 'SUCCESS');
is(told(), '2 x 200 refunded, 1 x 400 forged', 'forged, and in another order');
$wechat->settle($_, 'SUCCESS') for @of_crowd[ 4 .. $#of_crowd ];
my $rest = @of_crowd - 4;
is(told(), "$rest x 200 already_processed, $rest x 200 refunded", 'all twice');
is($server->sql("SELECT count(*), sum(attempts) FROM t_refund WHERE refund_no LIKE 'crowd%'"
		. " AND status = 300"), '15|15', 'not one of them was asked about');

# One was lost: the question finds it.
my $lost = $of_crowd[3];
$wechat->settle($lost, 'SUCCESS');
is(($wechat->notifications(refund_no => $lost))[0]{is_over}, $true, 'a notification is lost');
is($server->refund_status($lost), 200, 'nobody has heard of it');
$server->sql("UPDATE t_refund SET next_attempt_at = now() WHERE refund_no = '$lost'");
$server->wait_refunded($lost);
is($server->calls($lost), 'refund processing, query succeeded', 'but it is found by asking');

# wait_acknowledged() would wait for the lost one; from here on each refund is looked at by itself.
sub wait_told
{
	my ($refund_no, $outcome) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	my $said = '';
	until ($said =~ /\Q$outcome\E/)
	{
		die "$refund_no: no '$outcome', but '$said'" if time > $deadline;
		my @answers = $application->answers('wechat');
		$said = join ', ', @answers[ $seen .. $#answers ];
		sleep 0.02;
	}
	said();
	return;
}

# The notification is there before the answer to the request.
$wechat->faults({ fault => 'notify_early' });
my ($early) = $server->pay_twice($wechat, 'hurry');
$server->wait_refunded($early);
wait_told($early, '200 refunded');
$server->wait_for("SELECT EXISTS (SELECT FROM t_refund_attempt WHERE refund_no = '$early')",
	'its answer has come');
is($server->sql("SELECT call, verdict, applied, status FROM t_refund_attempt"
		. " JOIN t_refund USING (refund_no) WHERE refund_no = '$early'"),
	'refund|processing|f|300', 'news that overtake the answer are not undone by it');
$wechat->faults();

# CLOSED, and ABNORMAL; SUCCESS comes too late for a person.
my ($closing, $abnormal, $odd, $wrong) =
  $server->pay_twice($wechat, qw(closing abnormal oddities wrong-amount));
$server->wait_status(200, $closing, $abnormal, $odd, $wrong);
$wechat->settle($closing, 'CLOSED');
wait_told($closing, '200 refund_failed');
$wechat->settle($abnormal, 'ABNORMAL');
wait_told($abnormal, '200 refund_failed');
like(why($closing), qr/^WeChat closed the refund \(CLOSED\)/, 'closed: a person is told');
like(why($abnormal), qr/^the money could not be paid .* \(ABNORMAL\)/, 'abnormal: too');
is(join(' ', map { status_of($_) } 'closing-2', 'abnormal-2'), '500 500', 'the payments wait');
is($server->sql("SELECT refund_retry('$closing')"), 'closing-2-R2', 'CLOSED takes a new number');
is($server->sql("SELECT refund_retry('$abnormal')"), $abnormal, 'ABNORMAL keeps its number');
$server->wait_for("SELECT status = 500 AND attempts = 2 FROM t_refund WHERE refund_no = '$abnormal'",
	'it is asked about first');
is($server->calls($abnormal), 'refund processing, query abnormal', 'and not sent again');
$wechat->settle($abnormal, 'SUCCESS');
wait_told($abnormal, '200 conflict');
is($server->refund_status($abnormal), 500, 'news of success does not take it from a person');
like(why('abnormal-2'), qr/in attention, but the gateway reports that the money went back/,
	'who is told');
$server->sql("SELECT refund_resolve('$abnormal', true, 'as WeChat says')");

# What contradicts itself is asked about, at once.
$wechat->notify({
	kind => 'refund', refund_no => $odd, type => 'REFUND.SUCCESS',
	changes => { refund_status => 'CLOSED' }
});
wait_told($odd, '200 refund_asked');
$server->wait_for("SELECT status = 200 AND attempts = 2 FROM t_refund WHERE refund_no = '$odd'",
	'it is asked about');
is($server->calls($odd), 'refund processing, query processing',
	'a notification that contradicts itself makes payonce ask');
$wechat->settle($odd, 'SUCCESS');
wait_told($odd, '200 refunded');

# Of another amount.
$wechat->notify({
	kind => 'refund', refund_no => $wrong, type => 'REFUND.SUCCESS',
	changes => { amount => { refund => 9999 } }
});
wait_told($wrong, '200 mismatch');
is($server->refund_status($wrong), 200, 'another amount settles nothing');
like(why('wrong-amount-2'), qr/the gateway reports 9999 .*for refund $wrong of 3200$/,
	'a person is told');
$wechat->settle($wrong, 'SUCCESS');
wait_told($wrong, '200 refunded');
is($server->sql("SELECT payment_resolve('wrong-amount-2', 'accept', 'as WeChat says')"), 'cleared',
	'who has to look, also when the right one has come');

# A refund that was made in the merchant platform.
$wechat->notify({
	kind => 'refund', refund_no => $odd, changes => { out_refund_no => 'made-by-hand' } });
wait_told($odd, '200 unknown');
is($server->sql("SELECT kind, id FROM payonce_attention WHERE id = 'made-by-hand'"),
	'stray_notification|made-by-hand', 'a refund that nobody here knows is kept');
$server->sql("UPDATE t_stray_notification SET handled_at = now()");

# --- Signed with a certificate, while answers are signed with the public key: a merchant who changes

# Elsewhere, so that no connection is kept.
$wechat->move('--answer-key', 'certificate');
$server->sql("ALTER SERVER wechat OPTIONS (SET url '" . $wechat->url . "')");
$wechat->mode({ mode => 'processing' });
my ($changing) = $server->pay_twice($wechat, 'changing');
$server->wait_status(200, $changing);
my ($post) = $wechat->requests($changing);
is($post->{headers}{'wechatpay-serial'}, $keys{public_key_id}, 'answers by the public key');
$wechat->settle($changing, 'SUCCESS');
wait_told($changing, '200 refunded');
is($server->calls($changing), 'refund processing', 'and notifications by the certificate');

is($server->sql("SELECT status FROM t_refund WHERE refund_no = 'closing-2-R2'"), 0,
	'the new number of what was closed waits for its minute');
is($server->sql('SELECT * FROM payonce_attention'), '', 'nobody is needed');
$server->judge_ok($wechat);
done_testing();
