# A PostgreSQL server with payonce and its worker, as a TAP script needs it: orders to pay, refunds
# to wait for, processes to kill, and the judgement at the end, which compares the tables with what
# the gateways' own ledgers say was paid out.
package Payonce::TestServer;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use IPC::Run ();
use JSON::PP;
use Test::More;
use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Payonce::Judge;

# Nothing happens but by a wake-up within the life of a test, and retries are quick.
my %fast_settings = (
	'payonce.naptime' => '1h',
	'payonce.retry_delay' => '50ms',
	'payonce.retry_delay_max' => '1s',
	'payonce.request_timeout' => '10s',
	# Test::Cluster switches this off; here crashes are the point.
	'restart_after_crash' => 'on',
);

# new(NAME, settings => { name => value }, preload => 0, database => 'shop', start => 0):
# a running server with the extension in the database.
sub new
{
	my ($class, $name, %params) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init;
	my $self = $class->on_node($node, %params);
	my %settings = (%fast_settings, %{ $params{settings} // {} });
	$settings{shared_preload_libraries} = 'payonce' if $params{preload} // 1;
	$self->write_settings(%settings);
	return $self unless $params{start} // 1;
	$node->start;
	$self->create_database;
	return $self;
}

# on_node(NODE, database => 'shop'): a server that was made otherwise, such as a standby.
sub on_node
{
	my ($class, $node, %params) = @_;
	return bless {
		node => $node,
		database => $params{database} // 'shop',
		transactions => {},    # payment id => the gateway's number of it
	}, $class;
}

# A streaming standby of it, of this name: a server with the same settings, started.
sub add_standby
{
	my ($self, $name) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$self->{node}->backup($name);
	$node->init_from_backup($self->{node}, $name, has_streaming => 1);
	$node->start;
	return ref($self)->on_node($node);
}

# synchronous_standby_names, in force for everybody when this returns.
sub set_synchronous_standbys
{
	my ($self, $names) = @_;
	$self->reload_with(synchronous_standby_names => $names);
	$self->wait_for("SELECT current_setting('synchronous_standby_names') = '$names'", 'reloaded');
	# The checkpointer tells all others whether there are any; before it takes a request it has looked.
	$self->sql('CHECKPOINT');
	return;
}

# From now on its commits wait for the standby of this name.
sub make_synchronous
{
	my ($self, $name) = @_;
	$self->set_synchronous_standbys($name);
	$self->wait_for("SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')",
		'the standby is synchronous');
	return;
}

sub node { return $_[0]{node}; }
sub database { return $_[0]{database}; }

# The same server, seen from another of its databases.
sub in_database
{
	my ($self, $database) = @_;
	return bless { %$self, database => $database }, ref $self;
}

# Makes this object's database, with the extension, and waits for its worker if there is to be one.
sub create_database
{
	my ($self) = @_;
	$self->{node}->safe_psql('postgres', "CREATE DATABASE $self->{database}");
	$self->sql('CREATE EXTENSION payonce');
	return;
}

# --- Settings

sub write_settings
{
	my ($self, %settings) = @_;
	my $lines = join '', map { "$_ = '$settings{$_}'\n" } sort keys %settings;
	$self->{node}->append_conf('postgresql.conf', $lines);
	return;
}

# As an administrator changes settings: the file, then a reload.
sub reload_with
{
	my ($self, %settings) = @_;
	$self->write_settings(%settings);
	$self->{node}->reload;
	return;
}

# --- SQL

sub sql
{
	my ($self, $sql, %params) = @_;
	return $self->{node}->safe_psql($self->{database}, $sql, %params);
}

# A psql that stays open, for transactions that outlive a call: query_safe() and quit().
sub session
{
	my ($self) = @_;
	return $self->{node}->background_psql($self->{database});
}

# sql_error(SQL): its error message with the SQLSTATE; undef if there was none.
sub sql_error
{
	my ($self, $sql) = @_;
	my ($stdout, $stderr);
	my $exit = $self->{node}->psql($self->{database}, "\\set VERBOSITY verbose\n$sql",
		stdout => \$stdout, stderr => \$stderr, on_error_stop => 1);
	return $exit == 0 ? undef : $stderr;
}

# Until the query returns true, also over restarts of the server. At the deadline the script ends:
# nothing after it would mean anything.
#
# Not by poll_query_until, which hands the query to psql through a pipe: it ends the script when the
# server is away and psql is gone before it has read.
sub wait_for
{
	my ($self, $query, $what) = @_;
	my @command = ($self->{node}->installed_command('psql'), '--no-psqlrc', '-At',
		'-d', $self->{node}->connstr($self->{database}), '-c', $query);
	my $limit_s = $PostgreSQL::Test::Utils::timeout_default;
	my $deadline = time + $limit_s;
	my ($stdout, $stderr);
	do
	{
		IPC::Run::run \@command, '<', '/dev/null', '>', \$stdout, '2>', \$stderr,
		  IPC::Run::timeout($limit_s);
		return if $stdout eq "t\n" && $stderr eq '';
		sleep 0.05;
	} while (time < $deadline);
	diag "waited in vain until $what: $query\n$stdout$stderr";
	diag $self->situation;
	die "waited in vain until $what";
}

# What a person would look at.
sub situation
{
	my ($self) = @_;
	my ($stdout, $stderr);
	$self->{node}->psql($self->{database}, <<'SQL', stdout => \$stdout, stderr => \$stderr);
\x auto
SELECT * FROM payonce_stat_worker;
SELECT * FROM payonce_stat_gateway;
SELECT gateway, status, count(*), min(refund_no) FROM t_refund GROUP BY 1, 2 ORDER BY 1, 2;
SELECT * FROM t_refund WHERE status <> 300 ORDER BY updated_at LIMIT 5;
SELECT * FROM t_refund_attempt ORDER BY recorded_at DESC LIMIT 20;
SQL
	return "$stdout\n$stderr";
}

# --- Gateways

# add_gateway(GATEWAY, option => value, ...): the foreign server of a stand-in gateway, and, for a
# provider's, a user mapping with the keys that it knows.
sub add_gateway
{
	my ($self, $gateway, %options) = @_;
	my $protocol = $gateway->protocol;
	$options{url} //= $gateway->url . ($protocol eq 'alipay' ? '/gateway.do' : '');
	$self->sql('CREATE SERVER ' . $gateway->name
		. " FOREIGN DATA WRAPPER payonce_$protocol OPTIONS (" . option_list(%options) . ')');
	my %keys = keys_of($protocol);
	$self->map_user($gateway->name, %keys) if %keys;
	return;
}

# map_user(SERVER, option => value, ...): the user mapping of the worker's role, made anew.
sub map_user
{
	my ($self, $server, %options) = @_;
	$self->sql("SET client_min_messages = warning;\n"
		. "DROP USER MAPPING IF EXISTS FOR CURRENT_USER SERVER $server;\n"
		. "CREATE USER MAPPING FOR CURRENT_USER SERVER $server OPTIONS ("
		. option_list(%options) . ')');
	return;
}

sub option_list
{
	my (%options) = @_;
	return join ', ', map { "$_ '" . $options{$_} =~ s/'/''/gr . "'" } sort keys %options;
}

# What a merchant has from a provider: the keys of test/vectors, which the stand-ins know.
sub keys_of
{
	my ($protocol) = @_;
	my $folder = abs_path(dirname(__FILE__) . "/../../../vectors/$protocol");
	my %keys = (
		http => {},
		wechat => {
			mchid => '1900000001',
			serial_no => '3775B6A45ACD588826D15E583A95F5DD00000001',
			private_key_file => "$folder/merchant_private_key_pkcs8.pem",
			api_v3_key => 'PayonceTestApiV3Key0123456789abc',
			public_key_id => 'PUB_KEY_ID_0119000000012026011500000000001234',
			public_key_file => "$folder/wechatpay_public_key.pem",
			certificates_file => "$folder/platform_cert.pem",
		},
		alipay => {
			app_id => '2021000000000001',
			private_key_file => "$folder/app_private_key_pkcs8.pem",
			alipay_public_key_file => "$folder/alipay_public_key.pem",
		},
		stripe => {
			secret_key => 'sk_test_payonce_not_a_real_key',
			webhook_secret => 'whsec_payonce_test_secret_0123456789abcdef',
		},
	);
	return %{ $keys{$protocol} };
}

# --- Orders and payments. The gateway's ledger knows each payment, as if its customer had paid;
# payonce hears of that by the callbacks.

# add_orders({ id => ORDER_ID, price => 3200, payments => [[PAYMENT_ID, GATEWAY], ...] }, ...)
sub add_orders
{
	my ($self, @orders) = @_;
	my (@order_rows, @payment_rows, %paid_in);
	for my $order (@orders)
	{
		my $price = $order->{price} // 3200;
		push @order_rows, "('$order->{id}', $price)";
		for my $payment (@{ $order->{payments} })
		{
			my ($id, $gateway) = @$payment;
			push @payment_rows, "('$id', '$order->{id}', $price, '" . $gateway->name . "')";
			my %row = (payment_id => $id, amount => $price, currency => 'CNY');
			# Providers make their own numbers.
			$row{transaction_id} = "T-$id" if $gateway->protocol eq 'http';
			push @{ $paid_in{ $gateway->name }{rows} }, \%row;
			$paid_in{ $gateway->name }{gateway} = $gateway;
		}
	}
	for my $paid (values %paid_in)
	{
		my $added = $paid->{gateway}->add_payments(@{ $paid->{rows} });
		my @ids = map { $_->{payment_id} } @{ $paid->{rows} };
		@{ $self->{transactions} }{@ids} = @{ $added->{transaction_ids} };
	}
	$self->sql('INSERT INTO t_order (id, price) VALUES ' . join(', ', @order_rows));
	$self->sql('INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES '
		. join(', ', @payment_rows));
	return;
}

# The SQL of one callback.
sub callback_sql
{
	my ($self, $payment_id, $success) = @_;
	my $news = $success // 1 ? 'true' : 'false';
	my $transaction_id = $self->{transactions}{$payment_id} // "T-$payment_id";
	return "SELECT pay_callback_outcome('$payment_id', $news, transaction_id => '$transaction_id')";
}

# callback(PAYMENT_ID, SUCCESS): its outcome; a success by default.
sub callback
{
	my ($self, @arguments) = @_;
	return $self->sql($self->callback_sql(@arguments));
}

# Orders "ID" with the payments "ID-1", which is paid and wins, and "ID-2", not called back yet.
sub add_double_payments
{
	my ($self, $gateway, @ids) = @_;
	$self->add_orders(
		map { { id => $_, payments => [ [ "$_-1", $gateway ], [ "$_-2", $gateway ] ] } } @ids);
	$self->sql(join ";\n", map { $self->callback_sql("$_-1") } @ids);
	return map { $self->callback_sql("$_-2") } @ids;
}

# pay_twice(GATEWAY, ID...): both payments of each order succeed, in one transaction for all of the
# second ones. Returns the numbers of the refunds that this queues.
sub pay_twice
{
	my ($self, $gateway, @ids) = @_;
	my @second = $self->add_double_payments($gateway, @ids);
	$self->sql(join ";\n", 'BEGIN', @second, 'COMMIT');
	return map { "$_-2-R1" } @ids;
}

# --- Refunds

# Until they are all 300.
sub wait_refunded
{
	my ($self, @refund_nos) = @_;
	return $self->wait_status(300, @refund_nos);
}

sub wait_status
{
	my ($self, $status, @refund_nos) = @_;
	my $list = join ', ', map { "('$_')" } @refund_nos;
	$self->wait_for(
		"SELECT bool_and(coalesce(r.status, -1) = $status) FROM (VALUES $list) v (refund_no)"
		  . ' LEFT JOIN t_refund r USING (refund_no)',
		scalar @refund_nos . " refunds have status $status");
	return;
}

sub refund_status
{
	my ($self, $refund_no) = @_;
	return $self->sql("SELECT status FROM t_refund WHERE refund_no = '$refund_no'");
}

# The calls of a refund as "call verdict" in their order, joined by commas.
sub calls
{
	my ($self, $refund_no) = @_;
	return $self->sql(<<"SQL");
SELECT string_agg(call || ' ' || verdict, ', ' ORDER BY attempt, recorded_at)
FROM t_refund_attempt WHERE refund_no = '$refund_no'
SQL
}

# --- Processes

sub worker_pid
{
	my ($self) = @_;
	return $self->sql("SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
		. " AND backend_type = 'payonce worker'");
}

sub launcher_pid
{
	my ($self) = @_;
	return $self->sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'payonce launcher'");
}

# Until this database's worker runs, and is another process than the given one.
sub wait_for_worker
{
	my ($self, $not_pid) = @_;
	$not_pid //= 0;
	$self->wait_for("SELECT EXISTS (SELECT FROM payonce_stat_worker WHERE state = 'running'"
		. " AND pid <> $not_pid)", 'a worker runs');
	return;
}

# Does something that wakes the worker once, and waits until it has looked round and waits again.
# Returns what that returned.
sub while_worker_looks_round
{
	my ($self, $wake) = @_;
	my $activity = "FROM pg_stat_activity WHERE backend_type = 'payonce worker'"
	  . ' AND datname = current_database()';
	my $before = $self->sql("SELECT state_change $activity");
	my @result = $wake->();
	$self->wait_for("SELECT state = 'idle' AND state_change > '$before' $activity",
		'the worker has looked round');
	return @result;
}

# kill -9: the postmaster then restarts all of its processes. Returns once the server is up again,
# with another worker.
sub crash_process
{
	my ($self, $pid) = @_;
	my $worker = $self->worker_pid;
	kill 'KILL', $pid or die "kill $pid: $!";
	$self->wait_for_worker($worker);
	return;
}

# After an end of any kind. A killed postmaster's orphans have to end before there can be another.
sub start_again
{
	my ($self) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	until ($self->{node}->start(fail_ok => 1))
	{
		die 'the server does not start' if time > $deadline;
		sleep 0.1;
		$self->{node}->stop('fast', fail_ok => 1);
	}
	return;
}

# --- The judgement

# judge_ok(GATEWAY...): two tests, with which each script ends.
sub judge_ok
{
	my ($self, @gateways) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $tables = JSON::PP->new->utf8->decode($self->sql(Payonce::Judge::tables_query()));
	my @complaints = Payonce::Judge::complaints($tables, @gateways);
	is(join("\n", @complaints), '', 'the ledgers agree with the tables, nothing was paid out twice');
	is($self->sql('SELECT * FROM payonce_check()'), '', 'payonce_check() finds nothing');
	return;
}

# --- A gateway that hangs, and what must not wait for it

# pay_twice_hanging(GATEWAY, ID...): as pay_twice; then the gateway hangs with all of them in flight.
sub pay_twice_hanging
{
	my ($self, $gateway, @ids) = @_;
	$gateway->faults({ fault => 'hang' });
	my @refund_nos = $self->pay_twice($gateway, @ids);
	$self->wait_in_flight(scalar @ids);
	return @refund_nos;
}

# Until this database's worker waits for so many answers.
sub wait_in_flight
{
	my ($self, $count) = @_;
	$self->wait_for("SELECT in_flight = $count FROM payonce_stat_worker",
		"$count requests are in flight");
	return;
}

# prompt_ok(SQL, WHAT): one statement succeeds well before the 5 s for which the server itself would
# wait for a worker that does not go.
sub prompt_ok
{
	my ($self, $sql, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $started_at = time;
	my $error = $self->sql_error("SET statement_timeout = '4s';\n$sql");
	note sprintf '%s: %.3f s', $what, time - $started_at;
	is($error, undef, "$what returns at once");
	return;
}

# Runs SQL whose commit wakes the worker, until the worker, which had nothing to do before, waits
# again: whatever it has not sent then, it does not send.
sub wake_and_wait
{
	my ($self, $sql) = @_;
	my $since = $self->sql('SELECT clock_timestamp()');
	$self->sql($sql);
	$self->wait_for(<<"SQL", 'the worker has looked round');
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'payonce worker'
  AND datname = current_database() AND state = 'idle' AND state_change > '$since')
SQL
	return;
}

1;
