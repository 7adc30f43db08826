# Copies that a dump does not make (those are in 015): of a database by CREATE DATABASE ... TEMPLATE,
# by pg_upgrade, and of all files. What can be told from its original sends nothing until it is made
# the one that sends, and then asks first about what the original had in hand. A copy of all files
# cannot be told from it: the setting that stops it, and what happens without.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

# The original and its copies send under the same numbers: only a gateway that remembers them can
# tell that this is one refund.
my $gateway = Payonce::Gateway->new('wechat', forgets => 0);
my %settings = (
	wal_level => 'replica',
	max_wal_senders => 2,
	'payonce.request_timeout' => '600s');
my $original = Payonce::TestServer->new('original', settings => \%settings);
my $node = $original->node;
$original->add_gateway($gateway);
$original->wait_for_worker;

my $is_copy = 'this database is a copy: see payonce_activate()';
my $asks_first = qr/^refund lost, query /;

sub times_sent
{
	my ($refund_no) = @_;
	return scalar grep { $_->{method} eq 'POST' } $gateway->requests($refund_no);
}

# Of PREFIX: a refund paid out whose answer never came, one that hangs and is not paid out; both
# leased; and one that waits. Returns their numbers.
sub leave_unsettled
{
	my ($prefix) = @_;
	$gateway->faults({ fault => 'hang_after', match => 'acted' }, { fault => 'hang', match => 'open' });
	my @in_flight = $original->pay_twice($gateway, "$prefix-acted", "$prefix-open");
	$gateway->wait_for(in_flight => 1, refund_no => $_) for @in_flight;
	$original->sql("ALTER SERVER wechat OPTIONS (ADD paused 'true')");
	return (@in_flight, $original->pay_twice($gateway, "$prefix-queued"));
}

sub identity_of
{
	my ($server) = @_;
	return $server->sql(
		'SELECT system_identifier, (SELECT oid FROM pg_database WHERE datname = current_database())'
		  . ' FROM pg_control_system()');
}

# Whatever wakes it: all that blocks it is what is given.
sub sends_nothing_ok
{
	my ($copy, $blocked_by, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $requests = $gateway->request_count;
	$copy->wait_for_worker;
	$copy->wake_and_wait("ALTER SERVER wechat OPTIONS (SET paused 'false')");
	is($copy->sql('SELECT DISTINCT blocked_by FROM payonce_refund_backlog'),
		$blocked_by, "$what: the backlog says why it sends nothing");
	is($copy->sql('SELECT blocked_by FROM payonce_stat_worker'), $blocked_by,
		"$what: the worker's view too");
	is($gateway->request_count, $requests, "$what: it sends nothing");
	return;
}

# --- A template

my ($acted, $open, $queued) = leave_unsettled('first');
my @unsettled = ($acted, $open, $queued);
# For the next part; the server takes the worker away from what becomes a template.
$node->backup('files');
$node->safe_psql('postgres', 'CREATE DATABASE templated TEMPLATE shop');
my $templated = $original->in_database('templated');
is($templated->sql("SELECT string_agg(status::text, ' ' ORDER BY refund_no) FROM t_refund"),
	'100 100 0', 'a template: the copy has the leases of its original');
isnt(identity_of($templated), identity_of($original), 'its oid tells it from its original');
sends_nothing_ok($templated, $is_copy, 'a template');

# --- All files

# physical_copy(NAME, SETTING => VALUE, ...): a server beside the original, with what a person adds to
# its settings before the start.
sub physical_copy
{
	my ($name, %added) = @_;
	my $copy_node = PostgreSQL::Test::Cluster->new($name);
	$copy_node->init_from_backup($node, 'files');
	my $copy = Payonce::TestServer->on_node($copy_node);
	$copy->write_settings(%added);
	$copy_node->start;
	return $copy;
}

my $files = physical_copy('files', 'payonce.dispatch' => 'off');
is($files->sql("SELECT string_agg(status::text, ' ' ORDER BY refund_no) FROM t_refund"),
	'100 100 0', 'a copy of all files has the leases of its original');
is(identity_of($files), identity_of($original), 'and nothing tells it from its original');
sends_nothing_ok($files, 'payonce.dispatch is off', 'a copy of all files, dispatch off');
$files->sql('SELECT payonce_activate()');
sends_nothing_ok($files, 'payonce.dispatch is off', 'activated, dispatch off');

# Without the setting both send. What keeps the money together then are the numbers, and that what is
# leased is asked about.
$gateway->faults();
$files->reload_with('payonce.dispatch' => 'on');
$files->wait_refunded(@unsettled);
like($files->calls($_), $asks_first, "dispatch on: it asks about $_") for $acted, $open;
is(times_sent($queued), 1, 'and sends what waits');
$gateway->restart;
$original->sql("ALTER SERVER wechat OPTIONS (SET paused 'false')");
$original->wait_refunded(@unsettled);
is(times_sent($queued), 2, 'the original sends it as well, under the same number');
is(times_sent($open), 2, 'what the original had sent, it does not send again');
is($gateway->refund($_)->{paid_out_count}, 1, "$_ was paid out once") for @unsettled;
$_->judge_ok($gateway) for $files, $original;
$files->node->stop;

# The templated copy is made the one that sends.
$templated->sql('SELECT payonce_activate()');
$templated->wait_refunded(@unsettled);
like($templated->calls($_), $asks_first, "activated, the templated copy asks about $_")
  for $acted, $open;
is($gateway->refund($_)->{paid_out_count}, 1, "$_ was still paid out once") for @unsettled;
$templated->judge_ok($gateway);
$node->safe_psql('postgres', 'DROP DATABASE templated');

# --- pg_upgrade, here to the same version

$original->sql('ALTER SERVER wechat OPTIONS (DROP paused)');
my @carried = leave_unsettled('second');
my $identity = identity_of($original);
$node->stop('fast');
my $upgraded = Payonce::TestServer->new('upgraded', settings => \%settings, start => 0);
my $new_node = $upgraded->node;
my $bindir = $node->config_data('--bindir');
# It writes into the folder it is called in.
chdir PostgreSQL::Test::Utils::tempdir() or die "chdir: $!";
command_ok(
	[
		'pg_upgrade', '--no-sync', '-d', $node->data_dir, '-D', $new_node->data_dir,
		'-b', $bindir, '-B', $bindir, '-s', $new_node->host,
		'-p', $node->port, '-P', $new_node->port
	],
	'pg_upgrade');
$new_node->start;
my ($old_system, $old_oid) = split /\|/, $identity;
my ($new_system, $new_oid) = split /\|/, identity_of($upgraded);
isnt($new_system, $old_system, 'pg_upgrade changes the system identifier');
is($new_oid, $old_oid, 'and nothing else of the identity');
$gateway->restart;
$gateway->faults();
sends_nothing_ok($upgraded, $is_copy, 'upgraded');
$upgraded->sql('SELECT payonce_activate()');
$upgraded->wait_refunded(@carried);
like($upgraded->calls($_), $asks_first, "activated, it asks about $_") for @carried[ 0, 1 ];
is(times_sent($carried[0]), 1, 'what was paid out is not sent again');
is(times_sent($carried[2]), 1, 'what waited is sent once');
$upgraded->judge_ok($gateway);
done_testing();
