# Refunds through WeChat Pay: what is sent, whose answers are believed, how a refund ends and what a
# person can do then, what waits for a minute, what goes first, and keys that are wrong. How WeChat
# can fail is in 022_wechat_faults.pl, its notifications are in 022_wechat_notifications.pl.
use strict;
use warnings;
use utf8;

use FindBin;
use JSON::PP;
use lib "$FindBin::RealBin/lib";
use Test::More;
use Time::HiRes qw(time);

use Payonce::Gateway;
use Payonce::TestServer;

my $vectors = "$FindBin::RealBin/../vectors/wechat";
my %keys = Payonce::TestServer::keys_of('wechat');
my $json = JSON::PP->new;
my $done = 'refund processing, query succeeded';

my $server = Payonce::TestServer->new('main', settings => { 'payonce.batch_size' => 10 });
$server->wait_for_worker;
my $worker = $server->worker_pid;

# A gateway of WeChat's, and its server here with these options.
sub add_wechat
{
	my ($name, %params) = @_;
	my $options = delete $params{server} // {};
	my $gateway = Payonce::Gateway->new($name, protocol => 'wechat', %params);
	$server->add_gateway($gateway, %$options);
	return $gateway;
}

# What a person is shown about a payment or a refund.
sub why
{
	my ($id) = @_;
	return $server->sql("SELECT why FROM payonce_attention WHERE id = '$id'");
}

# --- What cannot wait: a queue, behind which there is a payment of almost a year ago

my $window = add_wechat('window_closes',
	server => { paused => 'true', rate_limit => 150 },
	provokes => ['refund_window_refused']);
$window->mode({ mode => 'immediate' });
my @young = $server->pay_twice($window, map { "young$_" } 1 .. 300);
my %days = (expiring => 360, expired => 366);
$window->add_payments(
	map +{
		payment_id => "$_-2", amount => 3200, currency => 'CNY',
		paid_at => time - 86400 * $days{$_}
	}, sort keys %days);
my @old_callbacks = $server->add_double_payments($window, sort keys %days);
$server->sql("UPDATE t_order_pay SET created_at = now() - interval '$days{$_} days'"
	. " WHERE id = '$_-2'") for keys %days;
$server->sql(join ";\n", @old_callbacks);
$server->sql(q{ALTER SERVER window_closes OPTIONS (SET paused 'false')});

# --- A minute between the refunds of a payment

# The stand-in's minute has two seconds, and here most of a minute goes by in one.
my $spaced = add_wechat('spaced', options => [ '--order-spacing-ms', 2000 ]);

sub let_pass
{
	my ($seconds) = @_;
	$server->sql("UPDATE t_refund SET sent_at = sent_at - interval '$seconds s',"
		. " next_attempt_at = next_attempt_at - interval '$seconds s' WHERE gateway = 'spaced'");
	return;
}

# How many of its refunds ended, and when the next may go: since the last was sent, in whole seconds.
sub spacing
{
	return $server->sql(<<'SQL');
SELECT count(*) FILTER (WHERE status = 300), min(extract(epoch FROM next_attempt_at) - (
	SELECT max(extract(epoch FROM sent_at)) FROM t_refund WHERE gateway = 'spaced'))
	FILTER (WHERE status = 0)::integer, max(attempts) FILTER (WHERE status = 0)
FROM t_refund WHERE gateway = 'spaced'
SQL
}

$server->add_orders({ id => 'parts', payments => [ [ 'parts-1', $spaced ] ] });
is($server->callback('parts-1'), 'paid', 'a payment of which parts go back');
my @parts = split /\n/, $server->sql(<<'SQL');
SELECT refund_request('parts-1', amount, 'a part') FROM (VALUES (100), (200), (300)) v (amount)
SQL
my $part_done = "SELECT count(*) = %d FROM t_refund WHERE gateway = 'spaced' AND status = 300";
$server->wait_for(sprintf($part_done, 1), 'one part is back');
is(spacing(), '1|61|0', 'the next refund of the payment waits for a minute, and was not sent');
let_pass(58);

# --- Keys of ours that are wrong, one after the other

my $strict = add_wechat('strict', provokes => [ 'signature_failures', 'identity_failures' ]);
my %wrong = (
	private_key_file => "$vectors/stranger_private_key.pem",
	serial_no => '3775B6A45ACD588826D15E583A95F5DD00000009',
	mchid => '1900000009',
);
my %said = (
	private_key_file =>
	  qr/^HTTP 401 SIGN_ERROR: .*; check mchid, serial_no, private_key and this server's clock$/,
	serial_no => qr/^HTTP 401 SIGN_ERROR: .*; check mchid, serial_no, private_key /,
	mchid => qr/^HTTP 404 MCH_NOT_EXISTS: .*; check mchid$/,
);

sub set_option
{
	my ($name, $value) = @_;
	$server->sql("ALTER USER MAPPING FOR CURRENT_USER SERVER strict OPTIONS (SET $name '$value')");
	return;
}

for my $option (sort keys %wrong)
{
	set_option($option, $wrong{$option});
	my ($refund_no) = $server->pay_twice($strict, "wrong-$option");
	$server->wait_status(500, $refund_no);
	is($server->calls($refund_no), 'refund rejected', "a wrong $option: sent once");
	like(why($refund_no), $said{$option}, "a wrong $option: a person is told what to check");
	set_option($option, $keys{$option});
	is($server->sql("SELECT refund_retry('$refund_no')"), $refund_no, 'and can try again');
	$server->wait_refunded($refund_no);
	is($server->calls($refund_no), "refund rejected, query not_found, $done",
		"the right $option: asked about, then sent");
}

# --- What is sent

my $wechat = add_wechat('wechat',
	server => { notify_url => 'https://pay.example.com/wechat/notify' });
my ($plain) = $server->pay_twice($wechat, 'plain');
$server->wait_refunded($plain);
is($server->calls($plain), $done, 'a refund is accepted, and found done by asking');
my ($post, $get) = $wechat->requests($plain);
my $sent = $json->decode($post->{body});
is(delete $sent->{transaction_id},
	$server->sql("SELECT transaction_id FROM t_order_pay WHERE id = 'plain-2'"),
	'it names the payment by its transaction');
is_deeply(
	$sent,
	{
		out_refund_no => $plain, reason => '订单重复支付',
		amount => { refund => 3200, total => 3200, currency => 'CNY' },
		notify_url => 'https://pay.example.com/wechat/notify',
	},
	'and has all that it should');
is_deeply([ map { $_->{headers}{'wechatpay-serial'} } $post, $get ],
	[ ($keys{public_key_id}) x 2 ], 'both requests say by which key the answer is to be signed');
like($server->sql("SELECT gateway_refund_id FROM t_refund WHERE refund_no = '$plain'"),
	qr/^50000\d+$/, "WeChat's number of the refund is kept");

# Without a transaction the payment's own number names it.
$server->add_orders(
	{ id => 'unnamed', payments => [ [ 'unnamed-1', $wechat ], [ 'unnamed-2', $wechat ] ] });
$server->sql("SELECT pay_callback('unnamed-1', true); SELECT pay_callback('unnamed-2', true)");
$server->wait_refunded('unnamed-2-R1');
($post) = $wechat->requests('unnamed-2-R1');
$sent = $json->decode($post->{body});
is_deeply([ @$sent{qw(out_trade_no transaction_id)} ], [ 'unnamed-2', undef ],
	'without a transaction_id the out_trade_no is sent');
$server->add_orders(
	{ id => 'short', payments => [ [ 's-1', $wechat ], [ 's-2', $wechat ] ] });
$server->sql("SELECT pay_callback('s-1', true); SELECT pay_callback('s-2', true)");
$server->wait_status(500, 's-2-R1');
like(why('s-2-R1'), qr/no transaction_id, and its id cannot be WeChat's out_trade_no/,
	'an id that WeChat cannot have is never sent');
is($wechat->methods('s-2-R1'), '', 'nothing of it');
$server->sql("SELECT refund_resolve('s-2-R1', false, 'a test')");

# The numbers' other characters, in a body and in a path.
my ($odd) = $server->pay_twice($wechat, 'o|dd*_');
$server->wait_refunded($odd);
is($server->calls($odd), $done, 'a number with |, * and _ comes back as it was');

# Orders that are closed, and parts on demand.
$server->add_orders({ id => 'closed', payments => [ [ 'closed-1', $wechat ] ] });
$server->sql("SELECT order_close('closed')");
is($server->callback('closed-1'), 'late', 'a payment of a closed order is late');
$server->add_orders({ id => 'asked', payments => [ [ 'asked-1', $wechat ] ] });
$server->callback('asked-1');
my $asked = $server->sql("SELECT refund_request('asked-1', 1299, 'goodwill')");
$server->wait_refunded('closed-1-R1', $asked);
my %reasons = ('closed-1-R1' => [ '订单已关闭', 3200 ], $asked => [ '商家退款', 1299 ]);
for my $refund_no (sort keys %reasons)
{
	($post) = $wechat->requests($refund_no);
	$sent = $json->decode($post->{body});
	is_deeply([ $sent->{reason}, $sent->{amount} ],
		[ $reasons{$refund_no}[0],
			{ refund => $reasons{$refund_no}[1], total => 3200, currency => 'CNY' } ],
		"$refund_no: reason, amount and total");
}

# Done at once, or after a while.
$wechat->mode({ mode => 'immediate' });
my ($at_once) = $server->pay_twice($wechat, 'at-once');
$server->wait_refunded($at_once);
is($server->calls($at_once), 'refund succeeded', 'what is done at once needs no question');
$wechat->mode({ mode => 'processing', after_queries => 2 });
my ($later) = $server->pay_twice($wechat, 'later');
$server->wait_refunded($later);
is($server->calls($later), 'refund processing, query processing, query processing, query succeeded',
	'what takes a while is asked about until it is done');

# --- Whose answers are believed

my %with = (
	public_key => { map { $_ => $keys{$_} } grep { !/^certificates/ } keys %keys },
	certificate => { map { $_ => $keys{$_} } grep { !/^public_key/ } keys %keys },
	both => \%keys,
);
my @signing;
for my $signed_by ('public_key', 'certificate')
{
	my $signer = add_wechat("by_$signed_by", options => [ '--answer-key', $signed_by ]);
	push @signing, $signer;
	for my $known ($signed_by, 'both')
	{
		$server->map_user($signer->name, %{ $with{$known} });
		my ($refund_no) = $server->pay_twice($signer, "$signed_by-$known");
		$server->wait_refunded($refund_no);
		is($server->calls($refund_no), $done,
			"answers signed by $signed_by are believed with $known here");
	}
}

# --- How a refund can end otherwise

my $ending = add_wechat('ending', options => [ '--order-spacing-ms', 0 ]);
$ending->mode({ mode => 'processing', after_queries => 1, outcome => 'CLOSED' });
my ($closed) = $server->pay_twice($ending, 'closes');
$ending->wait_for(requests => 1, refund_no => $closed);
$ending->mode({ mode => 'processing', after_queries => 0, outcome => 'ABNORMAL' });
my ($abnormal) = $server->pay_twice($ending, 'abnormal');
$ending->wait_for(requests => 1, refund_no => $abnormal);
$ending->mode({ mode => 'processing', after_queries => 0 });
$ending->faults({ fault => 'failed', match => '^closes-at-once', on => 'refund', count => 1 });
my ($closed_at_once) = $server->pay_twice($ending, 'closes-at-once');
$server->wait_status(500, $closed, $abnormal, $closed_at_once);
is($server->calls($closed), 'refund processing, query processing, query failed', 'closed later');
is($server->calls($closed_at_once), 'refund failed', 'closed at once');
is($server->calls($abnormal), 'refund processing, query abnormal', 'abnormal');
for my $refund_no ($closed, $closed_at_once)
{
	like(why($refund_no), qr/^WeChat closed the refund \(CLOSED\): no money left/,
		"$refund_no: closed, a person is told");
}
like(why($abnormal), qr/^the money could not be paid into the customer's account \(ABNORMAL\)/,
	'abnormal: a person is told');

# A closed number is dead; the next goes out under another, a minute after the first.
is($server->sql("SELECT refund_retry('$closed')"), 'closes-2-R2', 'CLOSED takes a new number');
is($server->sql("SELECT refund_retry('$abnormal')"), $abnormal, 'ABNORMAL keeps its number');
$server->wait_for("SELECT next_attempt_at > now() FROM t_refund WHERE refund_no = 'closes-2-R2'",
	'it is put off');
is($server->sql("SELECT n.next_attempt_at - o.sent_at, o.status, o.superseded_by, n.attempts"
		. " FROM t_refund o JOIN t_refund n ON n.refund_no = 'closes-2-R2'"
		. " WHERE o.refund_no = '$closed'"),
	'00:01:01|400|closes-2-R2|0', 'to a minute and a second after the old one');
$server->sql("UPDATE t_refund SET sent_at = sent_at - interval '61 s' WHERE refund_no = '$closed';"
	. " UPDATE t_refund SET next_attempt_at = now() WHERE refund_no = 'closes-2-R2'");
$server->wait_refunded('closes-2-R2');
$server->wait_for("SELECT status = 500 AND attempts = 3 FROM t_refund WHERE refund_no = '$abnormal'",
	'it is still abnormal');
is($server->calls($abnormal), 'refund processing, query abnormal, query abnormal',
	'an abnormal refund is asked about, and never sent again');
$ending->settle($abnormal, 'SUCCESS');
$server->sql("SELECT refund_retry('$abnormal')");
$server->wait_refunded($abnormal);
is($ending->refund($abnormal)->{sent_count}, 1, 'handled in the merchant platform, it is done');
$server->sql("SELECT refund_resolve('$closed_at_once', false, 'a test')");

# --- What went on meanwhile

$server->wait_for(sprintf($part_done, 2), 'the second part is back');
$server->wait_for("SELECT min(next_attempt_at) > now() FROM t_refund"
	. " WHERE gateway = 'spaced' AND status = 0", 'the third is put off');
is(spacing(), '2|61|0', 'and the third waits for another minute');
let_pass(58);
$server->wait_for(sprintf($part_done, 3), 'the third part is back');
is(join(' ', map { $server->calls($_) } @parts), join(' ', ($done) x 3),
	'of three parts each was sent once, and none was refused');

$server->wait_refunded(@young, 'expiring-2-R1');
$server->wait_status(500, 'expired-2-R1');
my @order = map { $_->{refund_no} }
  sort { $a->{id} <=> $b->{id} } grep { $_->{kind} eq 'refund' } @{ $window->ledger->{requests} };
is(join(' ', @order[ 0, 1 ]), 'expired-2-R1 expiring-2-R1',
	'what can soon not be refunded any more goes before 300 others');
is(scalar @order, 302, 'each was sent once');
is($server->calls('expired-2-R1'), 'refund rejected, query not_found', 'after a year WeChat decides');
like(why('expired-2-R1'), qr/^HTTP 400 INVALID_REQUEST: /, 'and a person is told what it said');
$server->sql("SELECT refund_resolve('expired-2-R1', false, 'too old')");

is($server->worker_pid, $worker, 'all of it was done by one worker');
is($server->sql("SELECT id, why FROM payonce_attention WHERE kind = 'refund'"), '',
	'no refund needs a person any more');

$server->judge_ok($window, $spaced, $strict, $wechat, @signing, $ending);
done_testing();
