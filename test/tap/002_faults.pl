# Every way in which the stand-in gateway can fail, one refund each: by which calls the refund gets
# to its end, and how often the money left. Every case meets the gateway twice: on a new connection,
# and on one that was kept, where an HTTP library is tempted to send a lost request again by itself.
use strict;
use warnings;

use FindBin;
use JSON::PP ();
use lib "$FindBin::RealBin/lib";
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

my $lost_before = 'refund unknown, query not_found, refund succeeded';
my $lost_after = 'refund unknown, query succeeded';
my $wait_once = 'refund wait, refund succeeded';
my $asked_again = 'refund unknown, query unknown, query succeeded';

# name => [the calls, the end, a rule, ...]. A rule without `on` is about the refund, and all apply
# once unless they say otherwise.
my %cases = (
	'delay-before' => [ 'refund succeeded', 300, { fault => 'delay', ms => 300 } ],
	'delay-after' => [ 'refund succeeded', 300, { fault => 'delay', ms => 300, when => 'after' } ],
	# It acts when payonce has given up, asked and sent again.
	'delay-long' => [ $lost_before, 300, { fault => 'delay', ms => 3500 } ],
	'trickle' => [ $lost_after, 300, { fault => 'trickle' } ],
	'hang' => [ $lost_before, 300, { fault => 'hang' } ],
	'hang-after' => [ $lost_after, 300, { fault => 'hang_after' } ],

	'429-seconds' => [ $wait_once, 300, { fault => '429', retry_after_s => 2 } ],
	'429-date' => [ $wait_once, 300, { fault => '429', retry_after_s => 3, form => 'date' } ],
	'429-often' => [
		'refund wait, refund wait, refund wait, refund succeeded', 300,
		{ fault => '429', retry_after_s => undef, count => 3 }
	],
	'503-seconds' => [ $wait_once, 300, { fault => '503', retry_after_s => 2 } ],
	'503-date' => [ $wait_once, 300, { fault => '503', retry_after_s => 3, form => 'date' } ],
	'503-plain' => [ $wait_once, 300, { fault => '503', retry_after_s => undef } ],

	'500-before' => [ $lost_before, 300, { fault => '500_before' } ],
	'500-after' => [ $lost_after, 300, { fault => '500_after' } ],
	'408' => [ $lost_before, 300, { fault => '408' } ],
	'failed' => [ 'refund failed', 500, { fault => 'failed', error => 'the account is closed' } ],
	(map { ("4xx-$_" => [ 'refund rejected', 500, { fault => '4xx', status => $_ } ]) }
		400, 401, 403, 404, 409, 422),
	(map { ("redirect-$_" => [ $lost_before, 300, { fault => 'redirect', status => $_ } ]) }
		301, 302, 303, 307, 308),

	(map { ("drop-before-$_" => [ $lost_before, 300, { fault => 'drop_before', how => $_ } ]) }
		'close', 'reset'),
	(map { ("drop-after-$_" => [ $lost_after, 300, { fault => 'drop_after', how => $_ } ]) }
		'close', 'reset'),
	'truncated' => [ $lost_after, 300, { fault => 'truncated' } ],
	'garbage-after' => [ $lost_after, 300, { fault => 'garbage' } ],
	'garbage-before' => [ $lost_before, 300, { fault => 'garbage', acted => JSON::PP::false } ],
	'huge-chunked' => [ $lost_after, 300, { fault => 'huge', megabytes => 8 } ],
	'huge-declared' => [
		$lost_after, 300, { fault => 'huge', megabytes => 8, declared => JSON::PP::true }
	],
	'weird-status' => [ $lost_after, 300, { fault => 'wrong_status_word' } ],
	'wrong-refund-no' => [ $lost_after, 300, { fault => 'wrong_refund_no' } ],

	# The gateway acted, and says that it did not: the number alone saves the money.
	'forget' => [
		'refund unknown, query not_found, refund unknown, query not_found, refund succeeded', 300,
		{ fault => 'drop_after', count => 2 }, { fault => 'forget', on => 'query', count => 2 }
	],

	# The question fails too.
	(map { (
		"query-$_" => [
			$asked_again, 300,
			{ fault => 'drop_after' }, { fault => $_, on => 'query' }
		]
	) } qw(500_before 408 garbage huge hang trickle truncated wrong_status_word wrong_refund_no
		redirect)),
	'query-429' => [
		'refund unknown, query wait, query succeeded', 300,
		{ fault => 'drop_after' }, { fault => '429', retry_after_s => 2, on => 'query' }
	],
	'query-403' => [
		'refund unknown, query rejected', 500,
		{ fault => 'drop_after' }, { fault => '4xx', status => 403, on => 'query' }
	],
);

# Some faults have payonce send again what was done already: such gateways must know their numbers.
my $wechat = Payonce::Gateway->new('wechat', forgets => 0);
my $server = Payonce::TestServer->new('main');
$server->add_gateway($wechat, timeout => '2s');
$server->wait_for_worker;

sub rules_of
{
	my ($prefix) = @_;
	my @rules;
	for my $name (sort keys %cases)
	{
		my (undef, undef, @of_case) = @{ $cases{$name} };
		push @rules,
		  map +{ on => 'refund', count => 1, match => "^$prefix-$name-2-", %$_ }, @of_case;
	}
	return @rules;
}

# What the gateway was asked: exactly the calls of which there is evidence.
sub methods_of
{
	my ($calls) = @_;
	return join ' ', map { /^refund/ ? 'POST' : 'GET' } grep { !/not_sent$/ } split /, /, $calls;
}

# When the gateway told a refund to wait, and when it came back, in Unix seconds.
sub waited_ok
{
	my ($refund_no, $told_s, $form) = @_;
	my ($told, $back) = grep { $_->{method} eq 'POST' } $wechat->requests($refund_no);
	# A date has whole seconds only.
	my $not_before = $told->{at} + $told_s;
	$not_before = int $not_before if $form eq 'date';
	cmp_ok($back->{at}, '>=', $not_before, "$refund_no came back not earlier than told");
	return;
}

sub play_cases
{
	my ($prefix) = @_;
	$wechat->faults(rules_of($prefix));
	my @names = sort keys %cases;
	$server->pay_twice($wechat, map { "$prefix-$_" } @names);
	for my $end (300, 500)
	{
		$server->wait_status($end,
			map { "$prefix-$_-2-R1" } grep { $cases{$_}[1] == $end } @names);
	}
	for my $name (@names)
	{
		my ($calls, undef) = @{ $cases{$name} };
		is($server->calls("$prefix-$name-2-R1"), $calls, "$prefix $name: its calls");
		is($wechat->methods("$prefix-$name-2-R1"), methods_of($calls),
			"$prefix $name: the gateway saw no other");
	}
	for my $status (429, 503)
	{
		waited_ok("$prefix-$status-seconds-2-R1", 2, 'seconds');
		waited_ok("$prefix-$status-date-2-R1", 3, 'date');
	}
	return;
}

play_cases('new');
$wechat->faults();
$server->wait_refunded($server->pay_twice($wechat, map { "warm$_" } 1 .. 60));
my $connections = $wechat->connections->{open};
cmp_ok($connections, '>=', 10, 'connections are kept');
play_cases('kept');

# --- What the evidence says

is($server->sql(<<'SQL'), '', 'the evidence has the HTTP status behind each verdict');
SELECT * FROM t_refund_attempt WHERE NOT CASE verdict
  WHEN 'succeeded' THEN http_status = 200
  WHEN 'not_found' THEN http_status = 404
  WHEN 'wait' THEN http_status IN (429, 503)
  WHEN 'rejected' THEN http_status BETWEEN 400 AND 499
  WHEN 'failed' THEN http_status = 200
  WHEN 'unknown' THEN error IS NOT NULL
  ELSE false END
SQL
is($server->sql(<<'SQL'), '', 'each attempt has one row, without gaps');
SELECT refund_no FROM t_refund_attempt JOIN t_refund USING (refund_no)
GROUP BY refund_no, attempts
HAVING array_agg(attempt ORDER BY attempt) <> ARRAY(SELECT generate_series(1, attempts))
SQL
is($server->sql("SELECT last_error FROM t_refund WHERE refund_no = 'new-failed-2-R1'"),
	'the account is closed', 'the reason of the failure is kept in its words');

# --- Attention, and the way out of it

is($server->sql("SELECT count(*) FROM payonce_attention WHERE kind = 'refund' AND why IS NOT NULL"),
	16, 'each that failed waits for a person, with its reason');
$wechat->faults();
my @rejected = map { ("new-4xx-$_-2-R1", "kept-4xx-$_-2-R1") } 400, 401, 403, 404, 409, 422;
for my $refund_no (@rejected, 'new-query-403-2-R1', 'kept-query-403-2-R1')
{
	is($server->sql("SELECT refund_retry('$refund_no')"), $refund_no,
		"$refund_no is tried again under its number");
}
for my $prefix ('new', 'kept')
{
	is($server->sql("SELECT refund_retry('$prefix-failed-2-R1')"), "$prefix-failed-2-R2",
		'a number that the gateway declared failed is not used again');
}
$server->wait_refunded(@rejected, map { ("$_-query-403-2-R1", "$_-failed-2-R2") } 'new', 'kept');
is($server->calls('new-4xx-400-2-R1'), 'refund rejected, query not_found, refund succeeded',
	'what was rejected is asked about before it is sent again');
is($server->calls('new-query-403-2-R1'), 'refund unknown, query rejected, query succeeded',
	'what was paid out all the same is not sent again');
is($server->sql('SELECT * FROM payonce_attention'), '', 'nobody is needed any more');

# --- One that must wait does not stop the others

$wechat->faults({ fault => '429', retry_after_s => 3600, match => '^patient', count => 1 });
my ($patient) = $server->pay_twice($wechat, 'patient');
$server->wait_status(0, $patient);
$server->wait_for("SELECT attempts = 1 AND status = 0 FROM t_refund WHERE refund_no = '$patient'",
	'it was told to wait');
$server->wait_refunded($server->pay_twice($wechat, map { "other$_" } 1 .. 20));
is($server->sql("SELECT next_attempt_at - updated_at >= '1h' FROM t_refund"
		. " WHERE status = 0 AND refund_no = '$patient'"),
	't', 'a refund waits for an hour, its gateway serves the others');
like($server->sql("SELECT blocked_by FROM payonce_refund_backlog"),
	qr/waits/, 'and the backlog says so');
$server->sql("UPDATE t_refund SET next_attempt_at = now() WHERE refund_no = '$patient'");
$server->wait_refunded($patient);

# All are told to wait: the gateway is sent fewer at a time, until its answers are good again.
my $crowded = Payonce::Gateway->new('crowded');
my $concurrency = "SELECT concurrency FROM payonce_stat_gateway WHERE gateway = 'crowded'";
$crowded->faults({ fault => '429', retry_after_s => 2, count => 16 });
$server->add_gateway($crowded, max_in_flight => 16);
my @crowd = $server->pay_twice($crowded, map { "crowd$_" } 1 .. 16);
$server->wait_for("SELECT ($concurrency) = 8", 'the concurrency is lowered');
$server->wait_refunded(@crowd);
$server->wait_refunded($server->pay_twice($crowded, map { "calm$_" } 1 .. 150));
is($server->sql($concurrency), 16, 'a gateway that says wait is sent less for a while');

# --- A query that is lost on a kept connection, where an HTTP library likes to ask again by itself

$wechat->faults({ fault => 'drop_after', match => '^quiet', on => 'refund', count => 1 },
	{ fault => 'drop_before', match => '^quiet', on => 'query', count => 1 });
my ($quiet) = $server->pay_twice($wechat, 'quiet');
$server->wait_refunded($quiet);
is($server->calls($quiet), $asked_again, 'a query that was dropped is repeated');
is($wechat->methods($quiet), 'POST GET GET', 'and nothing is sent again for it');

# --- Refused connections

my ($second_callback) = $server->add_double_payments($wechat, 'refused');
my $refused = 'refused-2-R1';
$wechat->kill9;
$server->sql($second_callback);
$server->wait_for("SELECT attempts >= 3 FROM t_refund WHERE refund_no = '$refused'",
	'it was tried three times');
$wechat->start;
$server->wait_refunded($refused);
like($server->calls($refused), qr/^(?:refund not_sent, ){3,}refund succeeded$/,
	'what never left is sent again');
is($wechat->methods($refused), 'POST', 'and not asked about');

# --- Results that come later

my $bank = Payonce::Gateway->new('bank', forgets => 0);
$server->add_gateway($bank);

sub accept_as
{
	my ($mode, $id) = @_;
	$bank->mode({ mode => 'processing', %$mode });
	my ($refund_no) = $server->pay_twice($bank, $id);
	$bank->wait_for(requests => 1, refund_no => $refund_no);
	return $refund_no;
}

my $polled = accept_as({ after_queries => 2 }, 'polled');
my $plain_200 = accept_as({ http_status => 200, after_queries => 0 }, 'plain-200');
my $late_failure = accept_as({ after_queries => 1, outcome => 'failed' }, 'late-failure');
my $after_while = accept_as({ after_ms => 1500 }, 'after-while');
$server->wait_refunded($polled, $plain_200, $after_while);
$server->wait_status(500, $late_failure);
is($server->calls($polled),
	'refund processing, query processing, query processing, query succeeded',
	'accepted, then succeeded: found by asking');
is($server->calls($plain_200), 'refund processing, query succeeded', 'accepted with 200');
is($server->calls($late_failure), 'refund processing, query processing, query failed',
	'accepted, then failed');
is($server->sql("SELECT status FROM t_order_pay WHERE id = 'late-failure-2'"), 500,
	'its payment waits for a person');
like($server->calls($after_while), qr/^refund processing, (?:query processing, )+query succeeded$/,
	'accepted, then succeeded after a time');

# A gateway that contradicts itself: it accepted the refund, and then does not know it. It is asked
# once more, and only then the refund is sent again, under its number.
$bank->faults(
	{ fault => 'forget', on => 'query', match => '^lapse', count => 1 },
	{ fault => 'forget', on => 'query', match => '^amnesia', count => 2 });
my $lapse = accept_as({ after_queries => 1 }, 'lapse');
my $amnesia = accept_as({}, 'amnesia');
$bank->wait_for(requests => 2, refund_no => $amnesia, on => 'refund');
$bank->settle($amnesia, 'succeeded');
$server->wait_refunded($lapse, $amnesia);
is($server->calls($lapse), 'refund processing, query not_found, query succeeded',
	'accepted, once unknown: asked once more');
like($server->calls($amnesia),
	qr/^refund processing, (?:query not_found, ){2}refund (?:processing|succeeded)(?:, query \w+)*$/,
	'accepted, twice unknown: sent again under its number');

# What takes longer than 30 days is shown to a person, and polled on.
my $slow = accept_as({}, 'slow');
$server->wait_status(200, $slow);
$server->sql("UPDATE t_refund SET accepted_at = accepted_at - interval '31 days'"
	  . " WHERE refund_no = '$slow'");
$server->wait_for("SELECT attention LIKE '%30 days%' FROM t_order_pay WHERE id = 'slow-2'",
	'a person is asked');
is($server->refund_status($slow), 200, 'after 30 days a refund is still being processed');
is($server->sql("SELECT count(*) FROM payonce_attention WHERE id = 'slow-2'"), 1,
	'and a person can see it');
$bank->settle($slow, 'succeeded');
$server->wait_refunded($slow);
is($server->sql("SELECT status FROM t_order_pay WHERE id = 'slow-2'"), 300, 'it ends all the same');

$server->judge_ok($wechat, $crowded, $bank);
done_testing();
