# Refunds through Alipay, with keys and with certificates: what is sent, and every way in which Alipay
# can fail, one refund each: by which calls the refund gets to its end, how often the money left, and
# what a person is told. A query that comes within ten seconds is no use; so all of the refunds are
# sent at the same time, and asked about at the same time.
use strict;
use warnings;
use utf8;

use FindBin;
use JSON::PP;
use lib "$FindBin::RealBin/lib";
use Test::More;

use Payonce::Cases;
use Payonce::Gateway;
use Payonce::TestServer;

my $true = JSON::PP::true;
my $vectors = "$FindBin::RealBin/../vectors/alipay";
my %keys = Payonce::TestServer::keys_of('alipay');
my %certificates = (
	(map { $_ => $keys{$_} } qw(app_id private_key_file)),
	seller_id => '2088000000000001',
	map { ("${_}_file" => "$vectors/$_.pem") } qw(app_cert alipay_cert alipay_root_cert));

my $lost_before = 'refund unknown, query not_found, refund succeeded';
my $lost_after = 'refund unknown, query succeeded';
my $asked_again = 'refund unknown, query unknown, query succeeded';
my $refused = 'refund rejected, query not_found';
my $adopted = 'refund rejected, query succeeded';
my $waited = 'refund wait, refund succeeded';

# An error of Alipay's: a code, or a sub_code of 40004. acted: the money left all the same.
sub error
{
	my ($code, %more) = @_;
	return { fault => 'provider_error', code => "$code", message => "words of $code", %more };
}

sub acted { return error(@_, acted => $true); }

sub name_of { return lc($_[0]) =~ s/^acq\.//r =~ tr/_./-/r; }

# --- What is answered, and by which calls that ends

# What is not a refusal; see Payonce::Cases.
my %unclear = (
	# It moved the money, and says that this call did not.
	'fund-change-n' => [ $lost_after, 300, { fault => 'wrong_status_word', word => 'N' } ],
	'fund-change-odd' => [ $lost_after, 300, { fault => 'wrong_status_word' } ],
	(map { (
		name_of($_) => [ $lost_before, 300, error($_) ],
		name_of($_) . '-acted' => [ $lost_after, 300, acted($_) ],
		name_of($_) . '-unsigned' => [ $lost_before, 300, error($_, signature => 'none') ],
	) } qw(20000 50000 ACQ.SYSTEM_ERROR ACQ.REFUND_CHARGE_ERROR ACQ.SOMETHING_NEW)),
	# What is not signed says nothing about money, and what a stranger signed nothing at all.
	'unsigned-balance' =>
	  [ $lost_after, 300, acted('ACQ.SELLER_BALANCE_NOT_ENOUGH', signature => 'none') ],
	'unsigned-refusal' => [ $lost_after, 300, acted('ACQ.TRADE_NOT_EXIST', signature => 'none') ],
	(map { (
		"strange-$_" => [ $lost_after, 300, acted($_, signature => 'stranger') ],
		"misplaced-$_" => [ $lost_after, 300, acted($_, signature => 'wrong_node') ],
	) } qw(40002 40005 40006)),
	(map { ("signature-$_" => [ $lost_after, 300, { fault => 'bad_signature', how => $_ } ]) }
		qw(none stranger wrong_node)),

	'429' => [ $lost_before, 300, { fault => '429' } ],
	'503' => [ $lost_before, 300, { fault => '503' } ],
	'500-before' => [ $lost_before, 300, { fault => '500_before' } ],
	'500-after' => [ $lost_after, 300, { fault => '500_after' } ],
	'403' => [ $lost_before, 300, { fault => '4xx', status => 403 } ],
	'redirect' => [ $lost_before, 300, { fault => 'redirect' } ],
	'garbage' => [ $lost_after, 300, { fault => 'garbage' } ],
	'truncated' => [ $lost_after, 300, { fault => 'truncated' } ],
	'huge' => [ $lost_after, 300, { fault => 'huge', megabytes => 4 } ],
	'wrong-number' => [ $lost_after, 300, { fault => 'wrong_refund_no' } ],
	'delay' => [ 'refund succeeded', 300, { fault => 'delay', ms => 300 } ],
	'hang' => [ $lost_before, 300, { fault => 'hang' } ],
	'hang-after' => [ $lost_after, 300, { fault => 'hang_after' } ],
	(map { ("drop-before-$_" => [ $lost_before, 300, { fault => 'drop_before', how => $_ } ]) }
		'close', 'reset'),
	(map { ("drop-after-$_" => [ $lost_after, 300, { fault => 'drop_after', how => $_ } ]) }
		'close', 'reset'),

	# The question fails too.
	(map { (
		name_of('query-' . ($_->{how} // $_->{code} // $_->{fault})) =>
		  [ $asked_again, 300, { fault => 'drop_after' }, { %$_, on => 'query' } ]
	) } error('20000'), error('ACQ.SYSTEM_ERROR'), error('ACQ.SELLER_BALANCE_NOT_ENOUGH'),
		(map +{ fault => 'bad_signature', how => $_ }, qw(none stranger wrong_node)),
		map +{ fault => $_ }, qw(500_before garbage hang drop_before truncated wrong_status_word
			wrong_refund_no)),
);

# What Alipay refuses, of a gateway of its own: refusals lower the number of requests in flight.
my %refusals = (
	(map { (
		name_of($_) => [ $refused, qr/^40004 \Q$_\E: words of \Q$_\E$/, error($_) ],
		name_of($_) . '-acted' => [ $adopted, 300, acted($_) ],
	) } map { "ACQ.$_" } qw(TRADE_HAS_CLOSE REASON_TRADE_REFUND_FEE_ERR DISCORDANT_REPEAT_REQUEST
		TRADE_STATUS_ERROR REASON_TRADE_BEEN_FREEZEN TRADE_HAS_FINISHED TRADE_NOT_EXIST
		INVALID_PARAMETER BUYER_NOT_EXIST)),
	'balance' => [ $waited, 300, error('ACQ.SELLER_BALANCE_NOT_ENOUGH') ],
	'limited' => [ $waited, 300, error('40005') ],
	'limited-unsigned' => [ $waited, 300, error('40005', signature => 'none') ],

	# Nothing was executed: what a person has to check.
	(map {
		my ($name, $code, $sub_code, $advice) = @$_;
		(
			$name => [
				'refund rejected', qr/^$code \Q$sub_code\E: .*; $advice/,
				error($code, sub_code => $sub_code, signature => 'none')
			],
			"$name-signed" =>
			  [ 'refund rejected', qr/; $advice/, error($code, sub_code => $sub_code) ],
		)
	} [ 'timestamp', 40002, 'isv.invalid-timestamp', "check this host's clock" ],
		[ 'missing', 40001, 'isv.missing-method', 'check app_id, private_key and url' ],
		[ 'conditions', 40003, 'isv.missing-signature-config', 'check private_key: ' ],
		[ 'rights', 40006, 'isv.insufficient-isv-permissions', 'the application has no right' ],
		[ 'token', 20001, 'aop.invalid-auth-token', 'payonce sends no authorisation token' ]),

	# The question is refused.
	(map { (
		name_of("query-$_") => [
			'refund unknown, query rejected', qr/^4000\d .*words of \Q$_\E/,
			{ fault => 'drop_after' }, { %{ error($_) }, on => 'query' }
		]
	) } qw(ACQ.TRADE_NOT_EXIST ACQ.INVALID_PARAMETER 40006)),
	'query-limited' => [
		'refund unknown, query wait, query succeeded', 300,
		{ fault => 'drop_after' }, { %{ error('40005') }, on => 'query' }
	],
);

# --- The gateways

my $server = Payonce::TestServer->new('main', settings => { 'payonce.request_timeout' => '60s' });
$server->wait_for_worker;

# A gateway of Alipay's, and its server here.
sub add_alipay
{
	my ($name, %params) = @_;
	my $keys = delete $params{keys};
	my $gateway = Payonce::Gateway->new($name, protocol => 'alipay', %params);
	$server->add_gateway($gateway, rate_limit => 200, timeout => $name eq 'slow' ? '60s' : '2s');
	$server->map_user($name, %$keys) if $keys;
	return $gateway;
}

my $alipay = add_alipay('alipay');
my $certified =
  add_alipay('certified', options => ['--certificate-mode'], keys => \%certificates);
my $strict = add_alipay('strict');
my $slow = add_alipay('slow');
# One whose numbers are what protects.
my $forgetful = add_alipay('forgetful', forgets => 0);
my $misled = add_alipay('misled', provokes => [ 'signature_failures', 'identity_failures' ]);
my $misread = add_alipay('misread', options => ['--certificate-mode'],
	provokes => ['identity_failures']);
my $blind = add_alipay('blind');

# --- The worker dies with requests in flight; they are asked about while the rest goes on

$slow->faults({ fault => 'hang', match => '^killed-before', count => 3 },
	{ fault => 'hang_after', match => '^killed-after', count => 3 });
my @before = $server->pay_twice($slow, map { "killed-before$_" } 1 .. 3);
my @after = $server->pay_twice($slow, map { "killed-after$_" } 1 .. 3);
$slow->wait_for(in_flight => 6);
$server->crash_process($server->worker_pid);

# --- All of the cases

my $by_key = Payonce::Cases->new($server, $alipay, 'key-', %unclear);
my $by_certificate = Payonce::Cases->new(
	$server, $certified, 'cert-', %unclear,
	'other-certificate' => [ $lost_after, 300, { fault => 'bad_signature', how => 'unknown_serial' } ]);
my $refusals = Payonce::Cases->new($server, $strict, '', %refusals);
$by_key->begin({ fault => 'bad_signature', match => '^doubtful' });
$by_certificate->begin(
	{ fault => 'bad_signature', how => 'unknown_serial', match => '^renewed' });
$refusals->begin(
	{ %{ error('ACQ.SELLER_BALANCE_NOT_ENOUGH') }, match => '^poor', on => 'refund' });
my ($doubtful) = $server->pay_twice($alipay, 'doubtful');
my ($renewed) = $server->pay_twice($certified, 'renewed');
my ($poor) = $server->pay_twice($strict, 'poor');

# It did it, denies it, and does it "again": not a second time, so the answer is not a success.
$forgetful->faults({ fault => 'drop_after', on => 'refund', count => 1 },
	{ fault => 'forget', on => 'query', count => 1 });
my ($forgotten) = $server->pay_twice($forgetful, 'forgotten');

# Alipay's key is another's: no answer of this gateway's can be believed.
$server->map_user('blind', %keys, alipay_public_key_file => "$vectors/stranger_public_key.pem");
my ($unseen) = $server->pay_twice($blind, 'unseen');

# --- While they wait: parts of a payment, of which Alipay takes one in three seconds

$server->add_orders({ id => 'parts', payments => [ [ 'parts-1', $alipay ] ] });
$server->callback('parts-1');
my @parts = split /\n/, $server->sql(<<'SQL');
SELECT refund_request('parts-1', amount, 'a part') FROM (VALUES (1), (1299), (700)) v (amount)
SQL

# --- What is sent

sub content_of
{
	my ($request) = @_;
	my ($content) = $request->{body} =~ /(?:^|&)biz_content=([^&]*)/;
	$content =~ tr/+/ /;
	$content =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge;
	return JSON::PP->new->utf8->decode($content);
}

my ($plain) = $server->pay_twice($alipay, 'plain');
my ($plain_certified) = $server->pay_twice($certified, 'plain-certified');
$server->wait_refunded($plain, $plain_certified);
is($server->calls($_), 'refund succeeded', "$_: done at once") for $plain, $plain_certified;
is_deeply(
	content_of($alipay->requests($plain)),
	{
		trade_no => $server->sql("SELECT transaction_id FROM t_order_pay WHERE id = 'plain-2'"),
		out_request_no => $plain, refund_amount => '32.00', refund_reason => '订单重复支付',
	},
	'a refund has all that it should');
like(($certified->requests($plain_certified))[0]{body}, qr/&app_cert_sn=[0-9a-f]{32}&alipay_root_/,
	'with certificates their numbers are sent along');

# Without a transaction the payment's own number names it, if Alipay takes it.
$server->add_orders(
	{ id => 'unnamed', payments => [ [ 'unnamed_1', $alipay ], [ 'unnamed_2', $alipay ] ] },
	{ id => 'hyphen', payments => [ [ 'hyphen-1', $alipay ], [ 'hyphen-2', $alipay ] ] });
$server->sql("SELECT pay_callback('$_', true)") for qw(unnamed_1 unnamed_2 hyphen-1 hyphen-2);
$server->wait_refunded('unnamed_2-R1');
my $sent = content_of($alipay->requests('unnamed_2-R1'));
is_deeply([ @$sent{qw(out_trade_no trade_no)} ], [ 'unnamed_2', undef ],
	'without a transaction_id the out_trade_no is sent');
$server->wait_status(500, 'hyphen-2-R1');
like($server->sql("SELECT why FROM payonce_attention WHERE id = 'hyphen-2-R1'"),
	qr/payment numbers of letters, digits and '_' only/, 'an id that Alipay cannot have is never sent');
is($alipay->methods('hyphen-2-R1'), '', 'nothing of it');
$server->sql("SELECT refund_resolve('hyphen-2-R1', false, 'a test')");

# --- Questions come, and their answers

sub attention_of
{
	my ($id) = @_;
	return $server->sql("SELECT why || ' / ' || what_to_do FROM payonce_attention WHERE id = '$id'");
}

like(attention_of('poor-2'),
	qr/^refund $poor waits: the merchant's balance .* too small .* top up the balance/,
	'a balance that is too small is shown, with what to do');
like($server->refund_status($poor), qr/^(?:0|100)$/, 'its refund waits, or is tried again');
my %last_error = (
	$unseen => qr/signature of Alipay's answer is wrong.*alipay_public_key is Alipay's/,
	$doubtful => qr/signature of Alipay's answer is wrong/,
	$renewed => qr/signed with another certificate than alipay_cert \(alipay_cert_sn 0{28}9999\)/,
);
for my $refund_no (sort keys %last_error)
{
	my $payment_id = $refund_no =~ s/-R1$//r;
	$server->wait_for(
		q{SELECT why LIKE '%cannot be verified: a key may be wrong' FROM payonce_attention}
		  . " WHERE id = '$payment_id'", "a person is told of $refund_no");
	is($server->refund_status($refund_no), 150, 'what cannot be verified settles nothing');
	like($server->sql("SELECT last_error FROM payonce_refund_backlog"
			. " WHERE refund_no = '$refund_no'"), $last_error{$refund_no}, 'the backlog says why');
}

$_->finish for $by_key, $by_certificate, $refusals;
$server->wait_refunded(@before, @after, @parts);
Payonce::Cases::asks_late_ok($server, 10);
is(join("\n", map { $server->calls($_) } @before),
	join("\n", ('refund lost, query not_found, refund succeeded') x 3),
	'kill -9: what had not been done was asked about, then sent again');
is(join("\n", map { $server->calls($_) } @after),
	join("\n", ('refund lost, query succeeded') x 3),
	'kill -9: what had been done was asked about, and not sent again');
is(join("\n", map { $server->calls($_) } @parts), join("\n", ('refund succeeded') x 3),
	'parts of a payment are each sent once, and none is refused');
is($server->sql(<<'SQL'), '', 'more than three seconds apart');
SELECT * FROM (SELECT sent_at - lag(sent_at) OVER (ORDER BY sent_at) AS apart FROM t_refund
	WHERE payment_id = 'parts-1') t WHERE apart < '3s'
SQL

# --- What goes on by itself once its cause is gone

$_->faults() for $alipay, $certified, $strict;
$server->map_user('blind', %keys);
$server->wait_refunded($poor, $doubtful, $renewed, $unseen);
like($server->calls($poor), qr/^(?:refund wait, )+refund succeeded$/, 'with a balance it goes out');
like($server->calls($_), qr/^refund unknown, (?:query unknown, )+query succeeded$/,
	"$_: with answers that verify it settles; it was sent once")
  for $doubtful, $renewed, $unseen;
is($server->sql("SELECT id FROM payonce_attention WHERE id ~ '^(poor|doubtful|renewed|unseen)'"),
	'', 'and nobody is needed any more');

# --- Keys of ours that are wrong, one after the other

my $worker = $server->worker_pid;

# [what is wrong, gateway, options, what a person is told]
for my $case (
	[
		'private-key', $misled, { private_key_file => "$vectors/stranger_private_key.pem" },
		qr/^40002 isv.invalid-signature: .*; check private_key: its public half/
	],
	[
		'app-id', $misled, { app_id => '2021000000000009' },
		qr/^40002 isv.invalid-app-id: .*; check app_id, and whether url is the environment/
	],
	[
		'mode', $misread, {},
		qr/^40002 isv.invalid-app-cert-sn: .*; check app_cert and alipay_root_cert/
	])
{
	my ($name, $gateway, $wrong, $said) = @$case;
	$server->map_user($gateway->name, %keys, %$wrong);
	my ($refund_no) = $server->pay_twice($gateway, "wrong-$name");
	$server->wait_status(500, $refund_no);
	is($server->calls($refund_no), 'refund rejected', "$name: sent once");
	like($server->sql("SELECT why FROM payonce_attention WHERE id = '$refund_no'"),
		$said, "$name: a person is told what to check");
	$server->map_user($gateway->name, $gateway == $misread ? %certificates : %keys);
	is($server->sql("SELECT refund_retry('$refund_no')"), $refund_no, 'and can try again');
	$server->wait_refunded($refund_no);
	is($server->calls($refund_no), 'refund rejected, query not_found, refund succeeded',
		"$name, corrected: asked about, then sent");
}
is($server->worker_pid, $worker, 'the worker goes on with the new keys');

# --- What a person tries again

my @refused_nos = $refusals->ending(1);
$server->sql(join ";\n", map { "SELECT refund_retry('$_')" } @refused_nos);
$server->wait_refunded(@refused_nos);
is($server->calls('trade-has-close-2-R1'), "$refused, query not_found, refund succeeded",
	'a refusal is asked about before it is sent again, under its number');
is($server->calls('query-acq-trade-not-exist-2-R1'),
	'refund unknown, query rejected, query succeeded', 'what had been done is not sent again');

$server->wait_refunded($forgotten);
is($server->calls($forgotten),
	'refund unknown, query not_found, refund unknown, query succeeded',
	'what Alipay did and denies is sent again under its number, and paid out once');
is($server->sql("SELECT * FROM payonce_attention WHERE id <> 'hyphen-2'"), '', 'nobody is needed');

$server->judge_ok($alipay, $certified, $strict, $slow, $forgetful, $misled, $misread, $blind);
done_testing();
