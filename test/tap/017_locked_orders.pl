# The worker waits for no order: what somebody has locked it leaves, keeps the answer, and records it
# when the lock is gone; the gateway sees one request. And while the network is in use, it holds
# nothing that others would have to wait for.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

my $wechat = Payonce::Gateway->new('wechat');
my $server = Payonce::TestServer->new('main',
	settings => { 'payonce.request_timeout' => '1s', 'payonce.lease' => '1s', 'payonce.naptime' => '1s' });
$server->add_gateway($wechat);
$server->wait_for_worker;
my $worker = $server->worker_pid;

# How an application may hold an order.
my %locks = (
	advisory => q{SELECT pg_advisory_xact_lock(order_lock_key('%s'))},
	order => q{SELECT FROM t_order WHERE id = '%s' FOR UPDATE},
	payment => q{SELECT FROM t_order_pay WHERE id = '%s-2' FOR UPDATE},
	refund => q{SELECT FROM t_refund WHERE refund_no = '%s-2-R1' FOR UPDATE},
	written => q{UPDATE t_order_pay SET note = 'read by the application' WHERE id = '%s-2'},
);

# A session that holds the order in this way.
sub hold
{
	my ($kind, $order) = @_;
	my $session = $server->node->background_psql('shop');
	$session->query_safe('BEGIN');
	$session->query_safe(sprintf $locks{$kind}, $order);
	return $session;
}

sub release
{
	my ($session) = @_;
	$session->query_safe('COMMIT');
	$session->quit;
	return;
}

# --- Locked while the gateway works

for my $kind (sort keys %locks)
{
	$wechat->faults({ fault => 'delay', ms => 500, when => 'after', match => "^$kind" });
	my ($refund_no) = $server->pay_twice($wechat, $kind);
	$wechat->wait_for(in_flight => 1, refund_no => $refund_no);
	my $session = hold($kind, $kind);
	# Answered, and so is another that was sent later.
	$wechat->wait_for(in_flight => 0);
	$server->wait_refunded($server->pay_twice($wechat, "beside_$kind"));
	if ($kind eq 'order')
	{
		# The result of a refund touches the payment, not the order.
		$server->wait_refunded($refund_no);
	}
	else
	{
		$server->wait_for('SELECT kept = 1 FROM payonce_stat_worker', 'the answer is kept');
		is($server->refund_status($refund_no), '100', "$kind lock: the result waits");
	}
	release($session);
	$server->wait_refunded($refund_no);
	is($wechat->methods($refund_no), 'POST', "$kind lock: one request was enough");
}
is($server->worker_pid, $worker, 'by one worker');

# --- Locked before it is claimed

$server->sql("ALTER SERVER wechat OPTIONS (ADD paused 'true')");
$wechat->faults();
my %sessions;
for my $kind (sort keys %locks)
{
	$server->pay_twice($wechat, "early_$kind");
	$sessions{$kind} = hold($kind, "early_$kind");
}
$server->sql("ALTER SERVER wechat OPTIONS (SET paused 'false')");
$server->wait_refunded($server->pay_twice($wechat, 'beside_early'));
pass('what was locked before it was claimed holds up no other');
is($wechat->methods('early_refund-2-R1'), '', 'a locked refund is not claimed');
release($_) for values %sessions;
$server->wait_refunded(map { "early_$_-2-R1" } keys %locks);
is(join(' ', map { $wechat->methods("early_$_-2-R1") } keys %locks),
	join(' ', ('POST') x keys %locks), 'each is sent once');

# --- Locked for longer than the lease

# The lease outlasts the request by 15 s, whatever is set.
$wechat->faults({ fault => 'delay', ms => 500, when => 'after', match => '^(long|ended)' });
my ($long, $ended) = $server->pay_twice($wechat, 'long', 'ended');
$wechat->wait_for(in_flight => 2);
my $session = hold('advisory', 'long');
my $other_session = hold('payment', 'ended');
$server->wait_for('SELECT kept = 2 FROM payonce_stat_worker', 'two answers are kept');

# With the worker the answer goes; the next one asks, and keeps that answer.
$server->sql("SELECT pg_terminate_backend($worker)");
$server->wait_for_worker($worker);
$server->wait_for('SELECT kept = 2 FROM payonce_stat_worker', 'the next worker has asked');
is(join(', ', map { $server->calls($_) } $long, $ended), 'refund lost, refund lost',
	'what the first worker knew is lost');

# Two naptimes, in which leases that ended are looked for.
$server->wait_for(<<"SQL", 'the lease ends');
SELECT lease_until < clock_timestamp() - interval '2s' FROM t_refund WHERE refund_no = '$long'
SQL
$server->wait_refunded($server->pay_twice($wechat, 'beside_long'));
release($session);
release($other_session);
$server->wait_refunded($long, $ended);
is(join(', ', map { $wechat->methods($_) } $long, $ended), 'POST GET, POST GET',
	'it is asked about once, also if the lock is held for longer than the lease');

# --- What others want of the tables while a gateway hangs

$server->reload_with('payonce.request_timeout' => '600s');
my @refund_nos = $server->pay_twice_hanging($wechat, map { "hang$_" } 1 .. 4);
for my $statement ('VACUUM FULL t_refund', 'VACUUM FULL t_order_pay', 'REINDEX TABLE t_refund',
	'ALTER TABLE t_order ADD COLUMN mark integer', 'ALTER TABLE t_order_pay ADD COLUMN mark integer',
	'ALTER TABLE t_refund ADD COLUMN mark integer', 'ALTER TABLE t_refund_attempt ADD COLUMN mark integer',
	'TRUNCATE t_stray_notification')
{
	$server->prompt_ok($statement, $statement);
}
$wechat->restart;
$server->wait_refunded(@refund_nos);
pass('the plans of the worker survive that');

# --- Statistics

# Dead rows that nobody reports are never vacuumed.
$server->wait_for(<<'SQL', 'the statistics show what the worker writes');
SELECT n_tup_upd >= 8 AND n_dead_tup > 0 FROM pg_stat_user_tables WHERE relname = 't_refund'
SQL
my $updates = $server->sql("SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 't_refund'");
$server->wait_refunded($server->pay_twice($wechat, 'counted'));
$server->wait_for("SELECT n_tup_upd >= $updates + 2 FROM pg_stat_user_tables WHERE relname = 't_refund'",
	'the worker reports its updates');
pass('the worker reports its updates: autovacuum knows of them');

$server->judge_ok($wechat);
done_testing();
