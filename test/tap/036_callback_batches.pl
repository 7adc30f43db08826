# Batches of callbacks beside single ones, each in an order of its own: none waits for another in a
# circle, every order keeps one payment, and the ledgers show one refund of each other one. And a
# batch whose process is killed in the middle: nothing of it was decided, and the next decides it all.
#
# PAYONCE_TEST_SEED repeats a run's random choices, though not what happens first.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use List::Util qw(shuffle);
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

my $seed = $ENV{PAYONCE_TEST_SEED} // time;
srand $seed;
note "PAYONCE_TEST_SEED=$seed";

my @gateways = map { Payonce::Gateway->new($_) } 'wechat', 'alipay';
my $server = Payonce::TestServer->new('main');
$server->add_gateway($_) for @gateways;
$server->wait_for_worker;

# Prices differ by order, so that an amount sent back for another order would show.
sub add_orders
{
	my ($name, $orders, $payments_each) = @_;
	my @new = map {
		my $number = $_;
		{
			id => "$name$number",
			price => 1000 + $number,
			payments =>
			  [ map { [ "$name$number-$_", $gateways[ $_ % 2 ] ] } 1 .. $payments_each ],
		}
	} 1 .. $orders;
	$server->add_orders(@new);
	return map { $_->[0] } map { @{ $_->{payments} } } @new;
}

sub batch_sql
{
	my $ids = join ', ', map { "'$_'" } @_;
	return "SELECT outcome, count(*) FROM pay_callback_batch(ARRAY[$ids],"
	  . " array_fill(true, ARRAY[cardinality(ARRAY[$ids])])) GROUP BY outcome ORDER BY outcome";
}

# --- Batches and single callbacks meet

my ($orders, $each) = (60, 4);
my @payments = add_orders('met', $orders, $each);
my $folder = $PostgreSQL::Test::Utils::tmp_check;
my @scripts;
for my $client (1 .. 6)
{
	my @shuffled = shuffle @payments;
	my $script = "$folder/deliver$client.sql";
	append_to_file(
		$script,
		join '',
		map { "$_;\n" } $client <= 4
		? map { batch_sql(splice @shuffled, 0, 40) } 1 .. 6
		: map { "SELECT pay_callback('$_', true)" } @shuffled);
	push @scripts, $script;
}
# Every client plays each of them, in an order that pgbench draws.
command_ok(
	[
		'pgbench', '--no-vacuum', '--client=8', '--jobs=2', '--transactions=8',
		(map { "--file=$_" } @scripts), $server->node->connstr($server->database)
	],
	'every batch and every callback is acknowledged');
$server->sql(batch_sql(@payments));
is( $server->sql(batch_sql(shuffle @payments)),
	'already_processed|' . @payments,
	'afterwards all of them are known');
is($server->sql('SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()'), 0,
	'there was no deadlock');
is($server->sql("SELECT count(DISTINCT order_id) FROM t_order_pay WHERE status = 100"),
	$orders, 'each order has one winner');
$server->wait_for('SELECT count(*) = ' . $orders * ($each - 1) . ' FROM t_refund WHERE status = 300',
	'every other payment goes back');

# --- A batch whose process is killed in the middle

my @doomed = shuffle add_orders('doomed', 20, 2);
my $holder = $server->session;
$holder->query_safe("BEGIN; SELECT id FROM t_order WHERE id = 'doomed5' FOR UPDATE");
my $session = $server->session;
my $backend = $session->query_safe('SELECT pg_backend_pid()');
my $batch = batch_sql(@doomed);
$session->query_until(qr/begun/, "\\echo begun\n$batch;\n");
$server->wait_for(<<"SQL", 'the batch waits for a row in its middle');
SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $backend
SQL
is($server->sql(<<"SQL"), 't', 'it has written by then');
SELECT backend_xid IS NOT NULL FROM pg_stat_activity WHERE pid = $backend
SQL
$server->crash_process($backend);
eval { $_->quit } for $session, $holder;
is($server->sql("SELECT DISTINCT status FROM t_order_pay WHERE order_id LIKE 'doomed%'"),
	0, 'kill -9: nothing of it was decided');
is($server->sql($batch), "duplicate|20\npaid|20", 'the next one decides all of it');
$server->wait_for("SELECT count(*) = 20 FROM t_refund WHERE refund_no LIKE 'doomed%' AND status = 300",
	'and what is to go back goes back');

$server->judge_ok(@gateways);
done_testing();
