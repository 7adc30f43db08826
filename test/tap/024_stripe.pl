# Stripe: it knows a refund of ours by its metadata alone, remembers an idempotency key, and the error
# under it, for a day, and may take back a success. Whatever is lost on the way, the money leaves once.
use strict;
use warnings;

use FindBin;
use HTTP::Tiny;
use JSON::PP ();
use lib "$FindBin::RealBin/lib";
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::NotifyServer;
use Payonce::TestServer;

my $seed = $ENV{PAYONCE_TEST_SEED} // time;
srand $seed;
note "PAYONCE_TEST_SEED=$seed";
my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my $json = JSON::PP->new->utf8;

my $server = Payonce::TestServer->new('main', settings => { 'payonce.lease' => '1h' });
my $application = Payonce::NotifyServer->new($server);
my %stripe = (protocol => 'stripe');
my $told = Payonce::Gateway->new('told', %stripe,
	options => [ '--notify-url', $application->url('told') ]);
# The others send no news: everything has to be found by asking. The first forgets a key at once, so
# that what is sent again without a question is paid twice; the second remembers, as Stripe does.
my $forgetful = Payonce::Gateway->new('forgetful', %stripe, options => [ '--seed', $seed ]);
my $mindful = Payonce::Gateway->new('mindful', %stripe, forgets => 0,
	provokes => ['idempotency_misuses']);
my $paged = Payonce::Gateway->new('paged', %stripe, options => [ '--page-limit', 2 ]);
my @gateways = ($told, $forgetful, $mindful, $paged);
$server->add_gateway($_, rate_limit => 1000, timeout => '2s') for @gateways;
$server->wait_for_worker;

sub refund_column
{
	my ($refund_no, $column) = @_;
	return $server->sql("SELECT $column FROM t_refund WHERE refund_no = '$refund_no'");
}

sub payment_column
{
	my ($id, $column) = @_;
	return $server->sql("SELECT $column FROM t_order_pay WHERE id = '$id'");
}

# The idempotency keys of a refund's requests in their order, without what they have in common.
sub keys_sent
{
	my ($gateway, $refund_no) = @_;
	my @keys = map { $_->{headers}{'idempotency-key'} }
	  grep { $_->{method} eq 'POST' } $gateway->requests($refund_no);
	return join ' ', map { s/^payonce-\Q$refund_no\E-//r } @keys;
}

# --- Whatever may happen to a request, each in one refund. They go on while the rest is tested.

my $once = 'refund succeeded';
my $found = 'refund unknown, query succeeded';
my $again = 'refund unknown, query not_found, refund succeeded';
my $waited = 'refund wait, refund succeeded';
my $refused = 'refund rejected, query not_found';

sub error_of
{
	my ($code, %more) = @_;
	return { fault => 'provider_error', code => $code, %more };
}

# name => [the calls, the keys, the end, a rule, ...]. A rule without `on` is about the refund; each
# applies once unless it says otherwise.
my %of_forgetful = (
	'plain' => [ $once, 'a1', 300 ],
	'drop-before' => [ $again, 'a1 a1', 300, { fault => 'drop_before' } ],
	'drop-after' => [ $found, 'a1', 300, { fault => 'drop_after' } ],
	'reset-after' => [ $found, 'a1', 300, { fault => 'drop_after', how => 'reset' } ],
	'hang' => [ $again, 'a1 a1', 300, { fault => 'hang' } ],
	'hang-after' => [ $found, 'a1', 300, { fault => 'hang_after' } ],
	'garbage' => [ $found, 'a1', 300, { fault => 'garbage' } ],
	'weird-status' => [ $found, 'a1', 300, { fault => 'wrong_status_word' } ],
	'of-another' => [ $found, 'a1', 300, { fault => 'wrong_refund_no' } ],
	'408' => [ $again, 'a1 a1', 300, { fault => '408' } ],
	'424' => [ $again, 'a1 a1', 300, error_of('dependency', status => 424) ],
	'500-before' => [ $again, 'a1 a1', 300, { fault => '500_before' } ],
	'500-after' => [ $found, 'a1', 300, { fault => '500_after' } ],
	'503' => [ $again, 'a1 a1', 300, { fault => '503' } ],
	'lock-timeout' => [ $waited, 'a1 a1', 300, error_of('lock_timeout') ],
	'rate-limit' => [ $waited, 'a1 a1', 300, error_of('rate_limit') ],
	'conflict' => [ $again, 'a1 a1', 300, error_of('idempotency_key_in_use') ],
	# It is still at work when it is asked and when it is sent again: the key alone protects.
	'in-use' => [
		'refund unknown, query not_found, refund unknown, query succeeded', 'a1 a1', 300,
		{ fault => 'delay', ms => 9000 }
	],
	'already-by-us' => [
		'refund rejected, query succeeded', 'a1', 300,
		error_of('charge_already_refunded', acted => $true)
	],
	'already-otherwise' => [ $refused, 'a1', 500, error_of('charge_already_refunded') ],
	'too-much' => [
		$refused, 'a1', 500,
		error_of('parameter_invalid_integer', message => 'greater than unrefunded amount')
	],
	'disputed' => [ $refused, 'a1', 500, error_of('charge_disputed') ],
	'no-permission' => [ 'refund rejected', 'a1', 500, { fault => '4xx', status => 403 } ],
	'wrong-mode' => [ 'refund rejected', 'a1', 500, error_of('livemode_mismatch') ],
	'failed' => [ 'refund failed', 'a1', 500, { fault => 'failed', error => 'declined' } ],
	'ask-500' => [
		'refund unknown, query unknown, query succeeded', 'a1', 300,
		{ fault => 'drop_after' }, { fault => '500_before', on => 'query' }
	],
	'ask-429' => [
		'refund unknown, query wait, query succeeded', 'a1', 300,
		{ fault => 'drop_after' }, { fault => '429', on => 'query' }
	],
	'ask-hang' => [
		'refund unknown, query unknown, query succeeded', 'a1', 300,
		{ fault => 'drop_after' }, { fault => 'hang', on => 'query' }
	],
	'ask-403' => [
		'refund unknown, query rejected', 'a1', 500,
		{ fault => 'drop_after' }, { fault => '4xx', status => 403, on => 'query' }
	],
);
my %of_mindful = (
	# Asked, sent again, told the stored error, asked once more: only then under the next key.
	'stored-before' => [
		'refund unknown, query not_found, refund unknown, query not_found, refund succeeded',
		'a1 a1 a2', 300, error_of('api_error', status => 500)
	],
	'stored-after' => [ $found, 'a1', 300, error_of('api_error', status => 500, acted => $true) ],
	'stored-unlisted' => [
		'refund unknown, query not_found, refund unknown, query succeeded', 'a1 a1', 300,
		error_of('api_error', status => 500, acted => $true), { fault => 'forget', on => 'query' }
	],
	'stored-balance' => [
		'refund wait, refund unknown, query not_found, refund succeeded', 'a1 a1 a2', 300,
		error_of('balance_insufficient', stored => $true)
	],
	'stored-refusal' => [ $refused, 'a1', 500, error_of('charge_disputed', stored => $true) ],
	# The list is behind: the key brings the answer of the first request once more.
	'lagging' => [ $again, 'a1 a1', 300, { fault => 'drop_after' },
		{ fault => 'forget', on => 'query' } ],
	'spoiled' => [ $refused, 'a1 a1', 500 ],
);

sub rules_of
{
	my (%cases) = @_;
	my @rules;
	for my $name (sort keys %cases)
	{
		my (undef, undef, undef, @of_case) = @{ $cases{$name} };
		push @rules, map +{ on => 'refund', count => 1, match => "^$name-2", %$_ }, @of_case;
	}
	return @rules;
}

# Somebody uses the key that is to come for something else. Nothing comes of it but the error that is
# stored under it.
sub spoil_key
{
	my ($refund_no, $payment_id) = @_;
	my $answer = HTTP::Tiny->new->post_form(
		$mindful->url . '/v1/refunds',
		{
			payment_intent => $server->{transactions}{$payment_id},
			amount => 1,
			'metadata[out_refund_no]' => $refund_no,
		},
		{
			headers => {
				Authorization => 'Bearer sk_test_payonce_not_a_real_key',
				'Stripe-Version' => '2026-10-28.endive',
				'Idempotency-Key' => "payonce-$refund_no-a1",
			}
		});
	is($answer->{status}, 500, 'a key is spoiled');
	return;
}

$forgetful->faults(rules_of(%of_forgetful));
$mindful->faults({ %{ error_of('api_error', status => 500) }, match => '^spoiled', count => 1 },
	rules_of(%of_mindful));
my @callbacks = $server->add_double_payments($mindful, sort keys %of_mindful);
spoil_key('spoiled-2-R1', 'spoiled-2');
$server->sql(join ";\n", @callbacks);
$server->pay_twice($forgetful, sort keys %of_forgetful);

# --- Payments and refunds by webhook

sub add_orders
{
	my ($gateway, @ids) = @_;
	$server->add_orders(
		map { { id => $_, payments => [ [ "$_-1", $gateway ], [ "$_-2", $gateway ] ] } } @ids);
	return;
}

sub tell_payment
{
	my ($payment_id, %more) = @_;
	$told->notify({ kind => 'payment', payment_id => $payment_id, %more });
	return;
}

# What pay_notify answers to news that is not sent but handed to it.
sub hand_over
{
	my (%wanted) = @_;
	my $made = $told->notify({ deliver => $false, %wanted });
	return join ', ', map { $server->sql(<<"SQL") } @{ $made->{notifications} };
SELECT http_status || ' ' || outcome
FROM pay_notify('told', \$h\$@{[ $json->encode($_->{headers}) ]}\$h\$, \$b\$$_->{body}\$b\$)
SQL
}

add_orders($told, 'web');
is(hand_over(kind => 'payment', payment_id => 'web-1', signature => $_),
	'400 forged', "news of a payment, signature $_: refused") for 'none', 'stranger', 'stale';
is(hand_over(kind => 'payment', payment_id => 'web-1', changes => { livemode => $true }),
	'400 forged', 'a payment of the other mode: refused');
is(hand_over(kind => 'payment', payment_id => 'web-1', type => 'payment_intent.payment_failed',
		changes => { status => 'requires_payment_method' }),
	'200 failed', 'an attempt failed');
is(payment_column('web-1', 'transaction_id'), '', 'its PaymentIntent is not kept');
tell_payment('web-1', times => 3, parallel => $true);
$told->wait_acknowledged;
is(payment_column('web-1', "status || ' ' || transaction_id"),
	"100 $server->{transactions}{'web-1'}", 'a payment that is told three times at once is paid');
# The first try is forged, the second is not.
tell_payment('web-2', signature => 'stranger');
$server->wait_refunded('web-2-R1');
is($server->calls('web-2-R1'), $once, 'the second payment of the order is sent back');
like(refund_column('web-2-R1', 'gateway_refund_id'), qr/^re_/, 'its number at Stripe is kept');
$told->wait_acknowledged;
my ($post) = $told->requests('web-2-R1');
is($post->{body} =~ s/%5B/[/r =~ s/%5D/]/r,
	"payment_intent=$server->{transactions}{'web-2'}&amount=3200&reason=duplicate"
	  . '&metadata[out_refund_no]=web-2-R1', 'what is sent');

# Without metadata a payment is known by its PaymentIntent, once the application has stored it.
add_orders($told, 'bare');
sub store_intent
{
	my ($id) = @_;
	$server->sql("UPDATE t_order_pay SET transaction_id = '$server->{transactions}{$id}'"
		. " WHERE id = '$id'");
	return;
}
store_intent('bare-1');
tell_payment('bare-1', changes => { metadata => undef });
$told->wait_acknowledged;
is(payment_column('bare-1', 'status'), 100, 'a payment is found by its PaymentIntent');
tell_payment('bare-2', changes => { metadata => undef });
$server->wait_for(<<"SQL", 'money that nobody knows is shown');
SELECT EXISTS (SELECT FROM payonce_attention WHERE kind = 'stray_notification'
  AND id = '$server->{transactions}{"bare-2"}')
SQL
store_intent('bare-2');
$server->wait_refunded('bare-2-R1');
$told->wait_acknowledged;
pass('what could not be matched comes again, and is');

# News of refunds. Who asks is told to come back in an hour.
$told->faults({ fault => '429', on => 'query', retry_after_s => 3600 });
$told->mode({ mode => 'processing' });
my @slow = $server->pay_twice($told, 'slow-good', 'slow-bad', 'slow-canceled');
$server->wait_for(<<'SQL', 'nobody asks any more');
SELECT count(*) = 3 FROM t_refund WHERE refund_no LIKE 'slow-%' AND status = 200
  AND next_attempt_at > now() + interval '30 min' AND lease_owner IS NULL
SQL
$told->settle('slow-good-2-R1', 'succeeded');
$told->settle('slow-bad-2-R1', 'failed', 'lost_or_stolen_card');
$told->settle('slow-canceled-2-R1', 'canceled');
$server->wait_refunded('slow-good-2-R1');
$server->wait_status(500, 'slow-bad-2-R1', 'slow-canceled-2-R1');
is(refund_column('slow-bad-2-R1', 'last_error'),
	'Stripe declared the refund failed: lost_or_stolen_card', 'refund.failed says why');
is(refund_column('slow-canceled-2-R1', 'last_error'), 'the refund was canceled at Stripe',
	'so does refund.updated');
unlike(join(', ', map { $server->calls($_) } @slow), qr/query (?!wait)/,
	'news alone has settled them');

# A success that fails later.
$told->mode({ mode => 'immediate' });
$told->faults();
my ($returned) = $server->pay_twice($told, 'returned');
$server->wait_refunded($returned);
is(hand_over(kind => 'refund', refund_no => $returned, type => 'refund.failed',
		changes => { status => 'failed' }, signature => $_), '400 forged',
	"news that a refund failed, signature $_: refused") for 'none', 'stranger', 'stale';
is($server->refund_status($returned), 300, 'and the refund is left alone');
$told->wait_acknowledged;
$told->settle($returned, 'failed', 'expired_or_canceled_card');
$server->wait_status(500, $returned);
is(payment_column('returned-2', 'status'), 500, 'a success that fails later waits for a person');
is($server->sql("SELECT refund_retry('$_-2-R1')"), "$_-2-R2",
	"$_: it is tried again under a new number") for qw(returned slow-bad slow-canceled);
$server->wait_refunded(map { "$_-2-R2" } qw(returned slow-bad slow-canceled));
is(payment_column('returned-2', 'status'), 300, 'and the money has gone back');
# Told late and twice: it does not touch what has ended since.
is(hand_over(kind => 'refund', refund_no => $returned, type => 'refund.failed'),
	'200 already_processed', 'news of a number that was replaced changes nothing');
$told->wait_acknowledged;
is($told->summary->{counters}{forged_notifications_acknowledged} // 0, 0,
	'no forged news was acknowledged');

# --- A customer who has to do something, and a balance that is too small

sub hold_refund
{
	my ($id, %mode) = @_;
	$paged->mode({ mode => 'processing', %mode });
	my ($refund_no) = $server->pay_twice($paged, $id);
	$paged->wait_for(requests => 1, refund_no => $refund_no);
	return $refund_no;
}

sub wait_attention
{
	my ($payment_id, $words) = @_;
	$server->wait_for("SELECT attention LIKE '%$words%' FROM t_order_pay WHERE id = '$payment_id'",
		"$payment_id shows: $words");
	return;
}

my $customer = hold_refund('customer', state => 'requires_action');
my $given_up = hold_refund('given-up', state => 'requires_action');
my $no_funds = hold_refund('no-funds', reason => 'insufficient_funds');
$paged->mode({ mode => 'immediate' });
wait_attention($_, 'waits for the customer') for 'customer-2', 'given-up-2';
wait_attention('no-funds-2', "the merchant''s balance");
$paged->settle($customer, 'succeeded');
$paged->settle($given_up, 'canceled');
$paged->settle($no_funds, 'succeeded');
$server->wait_refunded($customer, $no_funds);
$server->wait_status(500, $given_up);
like($server->calls($customer), qr/^refund processing, (?:query processing, )+query succeeded$/,
	'what Stripe has accepted is asked about until it is done');
is_deeply([ grep { $_->{method} eq 'GET' && $_->{path} !~ m{^/v1/refunds/re_\w+$} }
		$paged->requests($customer) ], [], 'by its number at Stripe');
is($server->sql("SELECT refund_retry('$given_up')"), 'given-up-2-R2',
	'what was canceled is tried again under a new number');
$server->wait_refunded('given-up-2-R2');

my $balance = { %{ error_of('balance_insufficient') }, match => '^poor', on => 'refund' };
$paged->faults($balance);
my ($poor) = $server->pay_twice($paged, 'poor');
wait_attention('poor-2', "the merchant''s balance");
like($server->sql("SELECT what_to_do FROM payonce_attention WHERE id = 'poor-2'"),
	qr/^top up/, 'a person is told what to do');
$paged->faults();
$server->wait_refunded($poor);
like($server->calls($poor), qr/^(?:refund wait, )+refund succeeded$/, 'then it goes on by itself');
is($server->sql("SELECT count(*) FROM t_order_pay WHERE attention IS NOT NULL"
		. " AND id ~ '^(customer|given-up|no-funds|poor)-'"),
	0, 'and nobody is needed any more');

# --- A list of several pages, with ours on the last

sub look_at
{
	my ($refund_no, $time) = @_;
	$server->sql("UPDATE t_refund SET next_attempt_at = $time WHERE refund_no = '$refund_no'");
	return;
}

$server->add_orders({ id => 'many', price => 1000, payments => [ [ 'many-1', $paged ] ] });
$server->sql($server->callback_sql('many-1'));
$paged->faults({ fault => 'drop_after', on => 'refund', count => 1 });
my $oldest = $server->sql("SELECT refund_request('many-1', 100, 'the first')");
$server->wait_status(150, $oldest);
look_at($oldest, "now() + interval '1h'");
my @newer = map { $server->sql("SELECT refund_request('many-1', 100, 'number $_')") } 1 .. 4;
$server->wait_refunded(@newer);
my $asked_before = $paged->request_count;
look_at($oldest, 'now()');
$server->wait_refunded($oldest);
is($server->calls($oldest), $found, 'a refund is found behind newer ones');
is($paged->request_count - $asked_before, 3, 'on the third page');

# --- The number of the payment is missing

$server->add_orders({ id => 'nameless', payments => [ map { [ "nameless-$_", $paged ] } 1, 2 ] });
$server->sql("SELECT pay_callback('nameless-$_', true)") for 1, 2;
$server->wait_status(500, 'nameless-2-R1');
like(refund_column('nameless-2-R1', 'last_error'), qr/PaymentIntent.*nothing was sent/,
	'without its PaymentIntent a payment cannot be refunded');
store_intent('nameless-2');
$server->sql("SELECT refund_retry('nameless-2-R1')");
$server->wait_refunded('nameless-2-R1');
is(keys_sent($paged, 'nameless-2-R1'), 'a1', 'with it, it can');

# --- How the cases of the beginning have ended

sub ended_ok
{
	my ($gateway, %cases) = @_;
	for my $end (300, 500)
	{
		$server->wait_status($end,
			map { "$_-2-R1" } grep { $cases{$_}[2] == $end } sort keys %cases);
	}
	for my $name (sort keys %cases)
	{
		my ($calls, $keys) = @{ $cases{$name} };
		is($server->calls("$name-2-R1"), $calls, "$name: its calls");
		is(keys_sent($gateway, "$name-2-R1"), $keys, "$name: its keys");
	}
	return;
}

ended_ok($forgetful, %of_forgetful);
ended_ok($mindful, %of_mindful);
is($forgetful->summary->{counters}{keys_in_use}, 1, 'one request met its own twin at work');
like(refund_column('already-otherwise-2-R1', 'last_error'), qr/charge_already_refunded/,
	'what was refused keeps the reason, also after the question');
like(refund_column('spoiled-2-R1', 'last_error'), qr/idempotency_error/, 'a spoiled key too');

$forgetful->faults();
my @refused = grep { $of_forgetful{$_}[2] == 500 } sort keys %of_forgetful;
for my $name (@refused, 'stored-refusal')
{
	my $next = $name eq 'failed' ? 'R2' : 'R1';
	is($server->sql("SELECT refund_retry('$name-2-R1')"), "$name-2-$next", "$name: tried again");
}
$server->wait_refunded(map { "$_-2-R1" } grep { $_ ne 'failed' } @refused);
$server->wait_refunded('failed-2-R2', 'stored-refusal-2-R1');
is($server->calls('disputed-2-R1'), "$refused, query not_found, refund succeeded",
	'what was refused is asked about before it is sent again');
is($server->calls('stored-refusal-2-R1'),
	"$refused, query not_found, refund unknown, query not_found, refund succeeded",
	'a refusal that is stored under its key');
is(keys_sent($mindful, 'stored-refusal-2-R1'), 'a1 a1 a2', 'needs the next key');

# --- A day later: Stripe may have forgotten the keys

# What was not sent within a day; the server is as it would find it then.
sub a_day_passes
{
	my (@refund_nos) = @_;
	my $list = join ', ', map { "'$_'" } @refund_nos;
	$server->sql("UPDATE t_refund SET key_sent_at = key_sent_at - interval '24h',"
		. " sent_at = sent_at - interval '24h', next_attempt_at = now()"
		. " WHERE refund_no IN ($list)");
	return;
}

# Until the worker has all of them at rest again, each after an answer or the lack of one.
sub wait_at_rest
{
	my ($status, $attempts, @refund_nos) = @_;
	my $list = join ', ', map { "'$_'" } @refund_nos;
	$server->wait_for("SELECT bool_and(status = $status AND attempts >= $attempts"
		. " AND lease_owner IS NULL) FROM t_refund WHERE refund_no IN ($list)",
		"they are at rest in $status");
	return;
}

$forgetful->faults(
	{ fault => 'drop_before', on => 'refund', match => '^old-lost', count => 1 },
	{ fault => 'drop_after', on => 'refund', match => '^old-done', count => 1 },
	{ fault => '429', on => 'refund', match => '^old-throttled', count => 1, retry_after_s => 5 });
my ($unsent_callback) = $server->add_double_payments($forgetful, 'old-unsent');
my @old = $server->pay_twice($forgetful, 'old-lost', 'old-done', 'old-throttled');
wait_at_rest(150, 1, 'old-lost-2-R1', 'old-done-2-R1');
$server->wait_for("SELECT attempts = 1 AND status = 0 FROM t_refund"
	. " WHERE refund_no = 'old-throttled-2-R1'", 'it was told to wait');
# Before its patience ends.
$forgetful->kill9;
$server->sql($unsent_callback);
# After the answer "wait" its next requests do not leave: its key is as old as the first of them.
$server->wait_for(<<'SQL', 'both were tried in vain');
SELECT count(*) = 2 FROM t_refund WHERE attempts >= 3
  AND refund_no IN ('old-unsent-2-R1', 'old-throttled-2-R1')
SQL
$server->while_worker_looks_round(sub { $server->reload_with('payonce.dispatch' => 'off') });
push @old, 'old-unsent-2-R1';
$server->wait_for(<<'SQL', 'nothing is under way');
SELECT count(*) = 4 FROM t_refund WHERE refund_no LIKE 'old-%' AND lease_owner IS NULL
SQL
is($server->sql("SELECT string_agg(refund_no, ', ') FROM t_refund"
		. " WHERE refund_no LIKE 'old-%' AND key_sent_at IS NULL"),
	'old-unsent-2-R1', 'nothing was sent under the key of a request that never left');
a_day_passes(@old);
$forgetful->start;
$server->reload_with('payonce.dispatch' => 'on');
$server->wait_refunded('old-done-2-R1', 'old-unsent-2-R1');
$server->wait_status(500, 'old-lost-2-R1', 'old-throttled-2-R1');
like($server->calls('old-done-2-R1'), qr/^refund unknown, (?:query \w+, )*query succeeded$/,
	'a day later: asked, and found');
like($server->calls('old-unsent-2-R1'), qr/^(?:refund not_sent, ){3,}refund succeeded$/,
	'what never left is sent');
like($server->calls('old-lost-2-R1'), qr/^refund unknown, (?:query \w+, )*query not_found$/,
	'a day later: asked, and not sent again');
like($server->calls('old-throttled-2-R1'),
	qr/^refund wait, (?:refund not_sent, )+query not_found$/,
	'what waited for so long is asked about, too');
for my $name ('old-lost', 'old-throttled')
{
	like(refund_column("$name-2-R1", 'last_error'), qr/forgotten its idempotency key/,
		"$name: a person is told why");
	is(keys_sent($forgetful, "$name-2-R1"), 'a1', "$name: it was sent once");
}
# The day makes a key useful that was spoiled.
a_day_passes('spoiled-2-R1');
$server->sql("SELECT refund_retry('$_-2-R1')") for 'old-lost', 'old-throttled', 'spoiled';
$server->wait_refunded(map { "$_-2-R1" } 'old-lost', 'old-throttled', 'spoiled');
is(keys_sent($forgetful, "$_-2-R1"), 'a1 a2', "$_: a person sends it under the next key")
  for 'old-lost', 'old-throttled';
like($server->calls('old-lost-2-R1'), qr/query not_found, query not_found, refund succeeded$/,
	'and it was asked about before');
is(keys_sent($mindful, 'spoiled-2-R1'), 'a1 a1 a2', 'so does the one whose key was spoiled');

# --- Lost answers and kill -9 of the worker, with a gateway that forgets every key

$forgetful->faults(
	{ fault => 'drop_after', probability => 0.33 },
	{ fault => '500_after', probability => 0.1 },
	{ fault => 'drop_before', probability => 0.1 },
	{ fault => 'delay', ms => 80, when => 'after' });
my @stormy = $server->pay_twice($forgetful, map { "storm$_" } 1 .. 80);
for (1 .. 2)
{
	my $worker = $server->worker_pid;
	$forgetful->wait_for(requests => $forgetful->wait_for(requests => 0) + 1 + int rand 40);
	$server->crash_process($worker);
}
$server->wait_refunded(@stormy);
is($server->sql("SELECT count(*) FROM t_refund WHERE refund_no LIKE 'storm%'"
		. ' AND key_generation <> 1'),
	0, 'no other key was needed');
my $ledger = $forgetful->summary;
note "$ledger->{faults}{drop_after} answers dropped, $ledger->{requests} requests";
is($ledger->{duplicates}, 0, 'no refund was paid twice');

# --- A session has a refund locked while its worker ends: nothing but the worker's own look at what was
# lost leads to it, and the next sweep is an hour away.

$forgetful->faults({ fault => 'hang_after', on => 'refund', match => '^held' });
my ($held) = $server->pay_twice($forgetful, 'held');
$forgetful->wait_for(in_flight => 1, refund_no => $held);
my $session = $server->session;
$session->query_safe("BEGIN; SELECT FROM t_refund WHERE refund_no = '$held' FOR UPDATE");
my $worker = $server->worker_pid;
$server->sql("SELECT pg_terminate_backend($worker)");
$server->wait_for_worker($worker);
$server->wait_refunded($server->pay_twice($forgetful, 'beside'));
$session->query_safe('COMMIT');
$session->quit;
$server->wait_refunded($held);
is($server->calls($held), 'refund lost, query succeeded', 'a lost refund that was locked is found');

$server->judge_ok(@gateways);
done_testing();
