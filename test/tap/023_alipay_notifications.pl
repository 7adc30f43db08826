# Alipay's notifications, sent to the example application, which hands them to pay_notify: payments
# are decided by them, refunds are not: news of a refund makes payonce ask, and never books a payment.
# What is asked about after its first answer is asked about an hour later here, so whatever is asked
# about sooner is so because of a notification.
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
my $vectors = "$FindBin::RealBin/../vectors/alipay";
my $server = Payonce::TestServer->new(
	'main',
	settings => { 'payonce.retry_delay' => '1h', 'payonce.retry_delay_max' => '1h' });
$server->wait_for_worker;
my $application = Payonce::NotifyServer->new($server);

# One gateway by keys and one by certificates.
my %keys = Payonce::TestServer::keys_of('alipay');
my %certificates = (
	(map { $_ => $keys{$_} } qw(app_id private_key_file)),
	map { ("${_}_file" => "$vectors/$_.pem") } qw(app_cert alipay_cert alipay_root_cert));
my %mapping = (alipay => \%keys, certified => \%certificates);
my %gateways = map {
	$_ => Payonce::Gateway->new($_, protocol => 'alipay', options => [
		'--notify-url', $application->url($_),
		$_ eq 'certified' ? '--certificate-mode' : ()
	])
} sort keys %mapping;
for my $name (sort keys %gateways)
{
	$server->add_gateway($gateways{$name}, rate_limit => 200);
	$server->map_user($name, %{ $mapping{$name} }, seller_id => '2088000000000001');
}
my $alipay = $gateways{alipay};

# Orders of one price, with payments "ID-1", "ID-2" ... which nobody has paid yet.
sub add_unpaid
{
	my ($gateway, $payments, @ids) = @_;
	$server->sql(join ";\n",
		map {
			my $id = $_;
			("INSERT INTO t_order (id, price) VALUES ('$id', 3200)",
				map "INSERT INTO t_order_pay (id, order_id, price, gateway)"
				  . " VALUES ('$id-$_', '$id', 3200, '" . $gateway->name . "')",
				1 .. $payments)
		} @ids);
	return;
}

# Customers pay, and Alipay says so.
sub pay
{
	my ($gateway, @payments) = @_;
	$gateway->add_payments(
		map +{ payment_id => $_, amount => 3200, currency => 'CNY', notify => $true }, @payments);
	return;
}

# Waits until all of it was acknowledged, and returns what pay_notify made of what is new: sorted,
# as "STATUS OUTCOME", each with how often it was.
my $seen = 0;

sub said
{
	my @answers = $application->answers;
	my %count;
	$count{ s/^\S+ //r }++ for @answers[ $seen .. $#answers ];
	$seen = @answers;
	return join ', ', map { "$count{$_} x $_" } sort keys %count;
}

sub told
{
	$_->wait_acknowledged for values %gateways;
	return said();
}

sub status_of
{
	my ($id) = @_;
	return $server->sql("SELECT status FROM t_order_pay WHERE id = '$id'");
}

# --- Payments, by keys and by certificates

for my $name (sort keys %gateways)
{
	my $gateway = $gateways{$name};
	add_unpaid($gateway, 2, $name);
	pay($gateway, "$name-1");
	is(told(), '1 x 200 paid', "$name: a payment is announced, and decided");
	my ($news) = $gateway->notifications(payment_id => "$name-1");
	is($news->{last_body}, 'success', 'and acknowledged in the word that Alipay wants');
	is($server->sql("SELECT o.status, paid_by, transaction_id, paid_amount, paid_currency"
			. " FROM t_order o JOIN t_order_pay p ON p.id = paid_by WHERE o.id = '$name'"),
		"100|$name-1|$news->{content}{trade_no}|3200|CNY", 'as the notification said');
	$gateway->notify({ kind => 'payment', payment_id => "$name-1", times => 3, parallel => $true });
	is(told(), '3 x 200 already_processed', 'repetitions are acknowledged, and change nothing');
	pay($gateway, "$name-2");
	$server->wait_refunded("$name-2-R1");
	# Its refund is announced too: the answer to the request came first, or will have been enough.
	like(told(), qr/^1 x 200 already_processed, 1 x 200 duplicate$/,
		'the second payment of the order is a duplicate, and goes back');
	is($server->calls("$name-2-R1"), 'refund succeeded', 'by one request');
	add_unpaid($gateway, 1, "forged-$name", "unsigned-$name");
	$gateway->faults({ fault => 'notify_forged', match => "^forged-$name" },
		{ fault => 'notify_forged', how => 'none', match => "^unsigned-$name" });
	pay($gateway, "forged-$name-1", "unsigned-$name-1");
	is(told(), '2 x 200 paid, 2 x 400 forged', 'a forgery is refused, what is genuine is believed');
	my ($forged) = $gateway->notifications(payment_id => "forged-$name-1");
	is($forged->{tries}, 2, 'the second time');
	$gateway->faults();
}
my $log = slurp_file($server->node->logfile);
like($log, qr/was refused.*\n.*\Q$_\E/, "the log says: $_")
  for 'the signature is wrong (if all are: alipay_public_key is not', 'it has no sign',
  'the signature is wrong (if all are: alipay_cert is no longer';

# All of an order's payments at the same time, each five times at the same time.
my @crowd = map { "crowd$_" } 1 .. 5;
add_unpaid($alipay, 3, @crowd);
$alipay->faults({ fault => 'notify_duplicated', match => '^crowd\d-\d$', times => 5,
	parallel => $true });
pay($alipay, map { ("$_-1", "$_-2", "$_-3") } @crowd);
$server->wait_for("SELECT count(*) = 10 FROM t_refund WHERE refund_no LIKE 'crowd%'"
	. ' AND status = 300', 'what was too much went back');
like(told(), qr/^\d+ x 200 already_processed, 10 x 200 duplicate, 5 x 200 paid$/,
	'of all that come at the same time one wins, and each is decided once');
$alipay->faults();

# Closed without having been paid; an order of which nothing is known yet; another seller's.
add_unpaid($alipay, 1, 'moody');
$alipay->notify({
	kind => 'payment', payment_id => 'moody-1', amount => 3200, currency => 'CNY', type => $_ })
  for 'WAIT_BUYER_PAY', 'TRADE_CLOSED';
is(told(), '1 x 200 failed, 1 x 200 ignored', 'of what was not paid, failures are recorded');
is(status_of('moody-1'), 400, 'the payment failed');
pay($alipay, 'moody-1');
is(told(), '1 x 200 paid', 'and succeeds all the same');
pay($alipay, 'early-1');
$server->wait_for("SELECT EXISTS (SELECT FROM payonce_attention WHERE kind = 'stray_notification'"
	. " AND id = 'early-1' AND why LIKE '%total_amount=32.00%')", 'it is kept for a person');
add_unpaid($alipay, 1, 'early');
like(told(), qr/^1 x 200 paid, \d+ x 500 unknown$/, 'it comes again until its payment is there');
is(($alipay->notifications(payment_id => 'early-1'))[0]{last_body}, 'success', 'then it is over');
is($server->sql('SELECT count(*), count(handled_at) FROM t_stray_notification'), '1|1',
	'and what was kept has been dealt with');

sub hand_over
{
	my (%changes) = @_;
	my $told = $alipay->notify({
		kind => 'payment', payment_id => 'other-1', amount => 3200, currency => 'CNY',
		deliver => $false, changes => \%changes
	});
	my $body = $told->{notifications}[0]{body} =~ s/'/''/gr;
	return $server->sql("SELECT outcome, http_status, body FROM pay_notify('alipay', '{}', '$body')");
}

add_unpaid($alipay, 1, 'other');
is(hand_over(seller_id => '2088000000000009'), 'forged|400|fail', "another seller's is refused");
is(hand_over(app_id => '2021000000000009'), 'forged|400|fail', "another application's too");
is(hand_over(total_amount => '32.001'), 'forged|400|fail', 'and an amount that is none');
is(hand_over(msg_method => 'alipay.trade.refund.depositback.completed'), 'ignored|200|success',
	'a message of another kind is acknowledged');

# --- News of refunds: whatever they say of the trade, they book no payment

for my $status ('TRADE_SUCCESS', 'TRADE_FINISHED', 'TRADE_CLOSED')
{
	for my $about (
		{ refund_fee => '1.00' },
		{ gmt_refund => '2026-01-15 10:20:30.123' },
		{ refund_fee => '1.00', gmt_refund => '2026-01-15 10:20:30.123', out_biz_no => 'by-hand' })
	{
		is(hand_over(trade_status => $status, %$about), 'unknown|200|success',
			"$status with " . join(' and ', sort keys %$about) . ' is acknowledged');
	}
}
is($server->sql("SELECT o.status, p.status FROM t_order o JOIN t_order_pay p ON p.order_id = o.id"
		. " WHERE o.id = 'other'"), '0|0', 'and nothing is booked by it');
like($server->sql("SELECT string_agg(id, ' ' ORDER BY id) FROM payonce_attention"
		. " WHERE kind = 'stray_notification'"), qr/^2026011522001\d+ by-hand$/,
	'refunds that nobody here knows are kept, once: with a number, and of a trade without one');
$server->sql('UPDATE t_stray_notification SET handled_at = now()');
is(hand_over(trade_status => 'TRADE_SUCCESS', refund_fee => '0.00'), 'paid|200|success',
	'a refund of nothing hides no payment');
$alipay->add_payments({ payment_id => 'other-1', amount => 3200, currency => 'CNY' });

# --- They have payonce ask, now

# Its answer is lost; the news of it comes when payonce waits to ask, for an hour.
$alipay->faults({ fault => 'drop_after', on => 'refund', match => '^(?:lost|part)' },
	{ fault => 'notify_lost', on => 'notification' });
my ($lost) = $server->pay_twice($alipay, 'lost');
$server->wait_status(150, $lost);
is($server->sql("SELECT next_attempt_at > now() + interval '10 min' FROM t_refund"
		. " WHERE refund_no = '$lost'"), 't', 'an unclear refund waits');
$seen = $application->answers;
$alipay->notify({ kind => 'refund', refund_no => $lost });
$server->wait_refunded($lost);
is($server->calls($lost), 'refund unknown, query succeeded', 'news of it has the worker ask now');
is(said(), '1 x 200 refund_asked', 'by a notification that settles nothing itself');
$alipay->notify({ kind => 'refund', refund_no => $lost, times => 2 });
$server->sql('SELECT 1') until ($application->answers) >= $seen + 2;
is(said(), '2 x 200 already_processed', 'once it is settled they change nothing');

# A part: the trade goes on as paid, and the payment keeps its order.
$server->add_orders({ id => 'part', payments => [ [ 'part-1', $alipay ] ] });
$server->callback('part-1');
my $part = $server->sql("SELECT refund_request('part-1', 1299, 'a part')");
$server->wait_status(150, $part);
$alipay->notify({ kind => 'refund', refund_no => $part });
$server->wait_refunded($part);
my ($news) = grep { $_->{url} } $alipay->notifications(refund_no => $part);
is($news->{content}{trade_status}, 'TRADE_SUCCESS', 'a partly refunded trade is one that succeeded');
is($server->calls($part), 'refund unknown, query succeeded', 'its news has the worker ask');
is(status_of('part-1'), 100, 'and its payment is what it was');
is($server->sql("SELECT count(*) FROM t_refund WHERE payment_id = 'part-1'"), 1,
	'with one refund');

is($server->sql('SELECT * FROM payonce_attention'), '', 'nobody is needed');
$server->judge_ok(values %gateways);
done_testing();
