# Every way in which WeChat Pay can fail, one refund each: by which calls the refund gets to its end,
# how often the money left, and what a person is told. A query that comes within ten seconds is no
# use; so all of the refunds are sent at the same time, and asked about at the same time.
use strict;
use warnings;

use FindBin;
use JSON::PP ();
use lib "$FindBin::RealBin/lib";
use Test::More;

use Payonce::Cases;
use Payonce::Gateway;
use Payonce::TestServer;

my $true = JSON::PP::true;
my $vectors = "$FindBin::RealBin/../vectors/wechat";

my $done = 'refund processing, query succeeded';
my $lost_before = "refund unknown, query not_found, $done";
my $lost_after = 'refund unknown, query succeeded';
my $asked_again = 'refund unknown, query unknown, query succeeded';
my $refused = 'refund rejected, query not_found';
my $adopted = 'refund rejected, query succeeded';

# An error of WeChat's; acted: the money left all the same.
sub error
{
	my ($code, %more) = @_;
	return { fault => 'provider_error', code => $code, message => "words of $code", %more };
}

sub acted { return error(@_, acted => $true); }

# --- What is answered, and by which calls that ends

# What is not a refusal; see Payonce::Cases.
my %unclear = (
	'system-error' => [ $lost_before, 300, error('SYSTEM_ERROR') ],
	'system-error-acted' => [ $lost_after, 300, acted('SYSTEM_ERROR') ],
	'need-retry' => [ $lost_before, 300, error('BIZ_ERR_NEED_RETRY') ],
	'new-code' => [ $lost_before, 300, error('SOMETHING_NEW', status => 403) ],
	'new-code-acted' => [ $lost_after, 300, acted('SOMETHING_NEW', status => 400) ],
	# A code under another status than its own decides nothing.
	'odd-status' => [ $lost_after, 300, acted('NOT_ENOUGH', status => 500) ],
	'odd-status-200' => [ $lost_after, 300, acted('USER_ACCOUNT_ABNORMAL', status => 200) ],
	'unsigned-error' => [ $lost_before, 300, error('SYSTEM_ERROR', signature => 'none') ],
	'unsigned-error-acted' => [ $lost_after, 300, acted('SYSTEM_ERROR', signature => 'none') ],
	# Errors may come unsigned; but one that is signed wrongly is nobody's word.
	'strange-error' => [ $lost_after, 300, acted('NOT_ENOUGH', signature => 'stranger') ],
	'strange-refusal' => [ $lost_after, 300, acted('NO_AUTH', signature => 'stranger') ],
	'stale-refusal' => [ $lost_before, 300, error('NO_AUTH', signature => 'stale') ],

	(map { ("signature-$_" => [ $lost_after, 300, { fault => 'bad_signature', how => $_ } ]) }
		qw(none stranger probe unknown_serial stale)),
	(map { ("status-$_" => [ $lost_after, 300, acted('SYSTEM_ERROR', status => $_) ]) }
		202, 204, 502, 503, 504),

	'503' => [ $lost_before, 300, { fault => '503', retry_after_s => 2 } ],
	'500-before' => [ $lost_before, 300, { fault => '500_before' } ],
	'500-after' => [ $lost_after, 300, { fault => '500_after' } ],
	'408' => [ $lost_before, 300, { fault => '408' } ],
	'redirect' => [ $lost_before, 300, { fault => 'redirect' } ],
	'garbage' => [ $lost_after, 300, { fault => 'garbage' } ],
	'truncated' => [ $lost_after, 300, { fault => 'truncated' } ],
	'huge' => [ $lost_after, 300, { fault => 'huge', megabytes => 4 } ],
	'weird-status' => [ $lost_after, 300, { fault => 'wrong_status_word' } ],
	'wrong-refund-no' => [ $lost_after, 300, { fault => 'wrong_refund_no' } ],
	'delay' => [ $done, 300, { fault => 'delay', ms => 300 } ],
	'hang' => [ $lost_before, 300, { fault => 'hang' } ],
	'hang-after' => [ $lost_after, 300, { fault => 'hang_after' } ],
	(map { ("drop-before-$_" => [ $lost_before, 300, { fault => 'drop_before', how => $_ } ]) }
		'close', 'reset'),
	(map { ("drop-after-$_" => [ $lost_after, 300, { fault => 'drop_after', how => $_ } ]) }
		'close', 'reset'),

	# The question fails too.
	(map { (
		'query-' . ($_->{how} // $_->{code} // $_->{fault}) =>
		  [ $asked_again, 300, { fault => 'drop_after' }, { %$_, on => 'query' } ]
	) } error('SYSTEM_ERROR'), error('NOT_ENOUGH'), error('REQUEST_BLOCKED'),
		(map +{ fault => 'bad_signature', how => $_ }, qw(none stranger probe)),
		map +{ fault => $_ }, qw(500_before garbage hang drop_before truncated wrong_status_word
			wrong_refund_no)),

	# It accepted the refund; then it does not know it, once. It is asked once more.
	'lapse' => [
		'refund processing, query not_found, query succeeded', 300,
		{ fault => 'forget', on => 'query' }
	],
	'later' => [
		'refund processing, query unknown, query succeeded', 300,
		{ fault => 'bad_signature', how => 'probe', on => 'query' }
	],
);

# What WeChat refuses, of a gateway of its own: refusals lower the number of requests in flight.
my $setup = qr/; check mchid/;
my %refusals = (
	(map { (
		lc $_ => [ $refused, qr/^HTTP \d+ $_: words of $_ \(Request-ID \w+\)$/, error($_) ],
		lc "$_-acted" => [ $adopted, 300, acted($_) ],
		lc "$_-unsigned" => [ $refused, qr/ $_: /, error($_, signature => 'none') ],
	) } qw(USER_ACCOUNT_ABNORMAL REQUEST_BLOCKED PARAM_ERROR INVALID_REQUEST
		RESOURCE_NOT_EXISTS)),
	'sign_error' => [
		'refund rejected',
		qr/^HTTP 401 SIGN_ERROR: .*; check mchid, serial_no, private_key and this server's clock$/,
		error('SIGN_ERROR')
	],
	'no_auth' => [ 'refund rejected', qr/^HTTP 403 NO_AUTH: .*$setup/, error('NO_AUTH') ],
	'mch_not_exists' =>
	  [ 'refund rejected', qr/^HTTP 404 MCH_NOT_EXISTS: .*$setup$/, error('MCH_NOT_EXISTS') ],
	'4xx' => [ $refused, qr/^HTTP 400 INVALID_REQUEST: no/, { fault => '4xx', error => 'no' } ],
	'not_enough' => [ "refund wait, $done", 300, error('NOT_ENOUGH') ],
	'not_enough-unsigned' =>
	  [ "refund wait, $done", 300, error('NOT_ENOUGH', signature => 'none') ],

	# The question is refused.
	(map { (
		lc "query-$_" => [
			'refund unknown, query rejected', qr/ $_: /,
			{ fault => 'drop_after' }, { %{ error($_) }, on => 'query' }
		]
	) } qw(PARAM_ERROR INVALID_REQUEST SIGN_ERROR NO_AUTH)),
);

# --- The gateways

my $wechat = Payonce::Gateway->new('wechat', protocol => 'wechat');
my $strict = Payonce::Gateway->new('strict', protocol => 'wechat');
my $slow = Payonce::Gateway->new('slow', protocol => 'wechat');
# One whose numbers are what protects.
my $forgetful = Payonce::Gateway->new('forgetful', protocol => 'wechat', forgets => 0);
my $blind = Payonce::Gateway->new('blind', protocol => 'wechat');
my $server = Payonce::TestServer->new('main', settings => { 'payonce.request_timeout' => '60s' });
$server->add_gateway($_, timeout => '2s') for $wechat, $strict, $forgetful, $blind;
$server->add_gateway($slow);
$server->wait_for_worker;

# --- The worker dies with requests in flight; they are asked about while the rest goes on

$slow->faults({ fault => 'hang', match => '^killed-before', count => 3 },
	{ fault => 'hang_after', match => '^killed-after', count => 3 });
my @before = $server->pay_twice($slow, map { "killed-before$_" } 1 .. 3);
my @after = $server->pay_twice($slow, map { "killed-after$_" } 1 .. 3);
$slow->wait_for(in_flight => 6);
$server->crash_process($server->worker_pid);

# --- All of the cases

my $unclear = Payonce::Cases->new($server, $wechat, 'case-', %unclear);
my $refusals = Payonce::Cases->new($server, $strict, '', %refusals);
# Those that are told to wait for a minute, and those that wait for a person's hand.
my @limited = qw(limited limited-acted limited-403 limited-unsigned);
$refusals->begin(
	{ %{ error('FREQUENCY_LIMITED') }, match => '^limited-2-', on => 'refund', count => 1 },
	{ %{ acted('FREQUENCY_LIMITED') }, match => '^limited-acted', on => 'refund', count => 1 },
	{ %{ error('RATELIMIT_EXCEEDED', status => 403) },
		match => '^limited-403', on => 'refund', count => 1 },
	{ fault => '429', match => '^limited-unsigned', on => 'refund', count => 1 },
	{ %{ error('NOT_ENOUGH') }, match => '^poor', on => 'refund' },
	{ fault => 'drop_after', match => '^limited-query', on => 'refund', count => 1 },
	{ %{ error('FREQUENCY_LIMITED') }, match => '^limited-query', on => 'query', count => 1 });
$unclear->begin(
	{ fault => 'bad_signature', how => 'probe', match => '^doubtful', count => 1, on => 'refund' },
	{ fault => 'bad_signature', how => 'probe', match => '^doubtful', on => 'query' },
	{ %{ error('SIGN_ERROR') }, match => '^silenced', on => 'query' });
my @limited_nos = $server->pay_twice($strict, @limited);
my ($limited_query) = $server->pay_twice($strict, 'limited-query');
my ($poor) = $server->pay_twice($strict, 'poor');
my ($doubtful) = $server->pay_twice($wechat, 'doubtful');
my ($silenced) = $server->pay_twice($wechat, 'silenced');

$forgetful->faults({ fault => 'drop_after', on => 'refund', count => 1 },
	{ fault => 'forget', on => 'query', count => 1 });
my ($forgotten) = $server->pay_twice($forgetful, 'forgotten');

# WeChat's public key is another's: no answer of this gateway's can be believed.
my %keys = Payonce::TestServer::keys_of('wechat');
$server->map_user('blind', %keys, public_key_file => "$vectors/stranger_public_key.pem");
my ($unseen) = $server->pay_twice($blind, 'unseen');

# --- While they wait

sub attention_of
{
	my ($id) = @_;
	return $server->sql("SELECT why || ' / ' || what_to_do FROM payonce_attention WHERE id = '$id'");
}

my $balance = q{SELECT why LIKE '%waits: the merchant''s balance at the gateway is too small'}
  . q{ FROM payonce_attention WHERE id = 'poor-2'};
$server->wait_for($balance, 'the balance is too small');
like(attention_of('poor-2'), qr/^refund $poor waits.* top up the balance/,
	'a balance that is too small is shown, with what to do');
like($server->refund_status($poor), qr/^(?:0|100)$/, 'its refund waits, or is tried again');

my $list = join ', ', map { "'$_'" } @limited_nos;
$server->wait_for("SELECT count(*) = 4 FROM t_refund WHERE status = 150 AND refund_no IN ($list)",
	'they are told to come later');
is($server->sql("SELECT refund_no FROM t_refund WHERE refund_no IN ($list)"
		. " AND (next_attempt_at - updated_at < '60s' OR next_attempt_at - updated_at > '66s')"),
	'', 'what is limited is asked about after a minute');
# The minute is over.
$server->sql("UPDATE t_refund SET next_attempt_at = sent_at + interval '10s'"
	. " WHERE refund_no IN ($list)");

# --- Questions come, and their answers

$server->wait_for(
	q{SELECT why LIKE '%cannot be verified: a key may be wrong' FROM payonce_attention}
	  . " WHERE id = '$_-2'", "a person is told that answers to $_ cannot be verified")
  for 'unseen', 'doubtful';
$server->wait_for(q{SELECT why LIKE '%now the gateway refuses to say what became of it'}
	  . q{ FROM payonce_attention WHERE id = 'silenced-2'}, 'a refused question is shown');
is($server->sql("SELECT string_agg(DISTINCT status::text, ' ') FROM t_refund WHERE refund_no"
		. " IN ('$unseen', '$doubtful')"),
	150, 'what cannot be verified settles nothing');
is($server->refund_status($silenced), 200, 'what was accepted is asked about further');
like($server->sql("SELECT last_error FROM payonce_refund_backlog WHERE refund_no = '$unseen'"),
	qr/does not verify: its signature was not made with the key PUB_KEY_ID_/,
	'the backlog says which key');
like($server->sql("SELECT last_error FROM payonce_refund_backlog WHERE refund_no = '$doubtful'"),
	qr/deliberate probe/, 'and which answers are probes');
like($server->sql("SELECT last_error FROM payonce_refund_backlog WHERE refund_no = '$silenced'"),
	qr/SIGN_ERROR.*check mchid/, 'and why the gateway says nothing');

$unclear->finish;
$refusals->finish;
Payonce::Cases::asks_late_ok($server, 10);

$server->wait_refunded(@before, @after, @limited_nos, $forgotten);
is(join("\n", map { $server->calls($_) } @before),
	join("\n", ("refund lost, query not_found, $done") x 3),
	'kill -9: what had not been done was asked about, then sent again');
is(join("\n", map { $server->calls($_) } @after),
	join("\n", ('refund lost, query succeeded') x 3),
	'kill -9: what had been done was asked about, and not sent again');
for my $refund_no (@before, @after)
{
	my ($post, $get) = $slow->requests($refund_no);
	my $sent_at = $server->sql('SELECT extract(epoch FROM min(started_at)) FROM t_refund_attempt'
		. " WHERE refund_no = '$refund_no'");
	cmp_ok($get->{at}, '>=', $sent_at + 10, "$refund_no: the next worker waited too");
}
is(join("\n", map { $server->calls($_) } @limited_nos),
	join("\n", $lost_before, $lost_after, $lost_before, $lost_before),
	'what is limited is asked about before it is sent again');
is($server->calls($forgotten), 'refund unknown, query not_found, refund succeeded',
	'what WeChat did and denies is sent again under its number, and paid out once');
is($server->sql("SELECT status FROM t_refund WHERE refund_no = '$limited_query'"
		. " AND next_attempt_at - updated_at >= '60s'"),
	150, 'a question that is limited is repeated after a minute');

# --- What goes on by itself once its cause is gone

$strict->faults();
$wechat->faults();
$server->map_user('blind', %keys);
$server->sql("UPDATE t_refund SET next_attempt_at = now() WHERE refund_no = '$limited_query'");
$server->wait_refunded($poor, $limited_query, $doubtful, $silenced, $unseen);
like($server->calls($poor), qr/^(?:refund wait, )+$done$/, 'with a balance it goes out');
like($server->calls($unseen), qr/^refund unknown, (?:query unknown, )+query succeeded$/,
	'with the right key it settles; it was sent once');
like($server->calls($doubtful), qr/^refund unknown, (?:query unknown, )+query succeeded$/,
	'with true answers too');
like($server->calls($silenced), qr/^refund processing, (?:query rejected, )+query succeeded$/,
	'with an answer to its question too');
is($server->calls($limited_query), 'refund unknown, query wait, query succeeded'
	=~ s/wait/unknown/r, 'after its minute too');
is($server->sql(
		"SELECT id FROM payonce_attention WHERE id ~ '^(poor|doubtful|silenced|unseen)'"),
	'', 'and nobody is needed any more');

# --- What a person tries again

my @refused_nos = $refusals->ending(1);
$server->sql(join ";\n", map { "SELECT refund_retry('$_')" } @refused_nos);
$server->wait_refunded(@refused_nos);
is($server->calls($refusals->refund_no('user_account_abnormal')),
	"$refused, query not_found, $done", 'a refusal is asked about before it is sent again');
is($server->calls($refusals->refund_no('sign_error')),
	"refund rejected, query not_found, $done", 'and so is a request that was not read');
is($server->calls($refusals->refund_no('query-sign_error')),
	'refund unknown, query rejected, query succeeded', 'what had been done is not sent again');
is($server->sql('SELECT * FROM payonce_attention'), '', 'nobody is needed');

$server->judge_ok($wechat, $strict, $slow, $forgetful, $blind);
done_testing();
