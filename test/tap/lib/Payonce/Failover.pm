# A primary, its synchronous standby, and what can go wrong between a decision and its confirmation:
# the same story for the server as it is, and for a build whose worker does not wait for the standby.
# What the primary sends in it is held against what the promoted standby knows.
package Payonce::Failover;

use strict;
use warnings;

use IPC::Run ();
use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Utils;
use Payonce::TestServer;

my $worker = "FROM pg_stat_activity WHERE backend_type = 'payonce worker'"
  . ' AND datname = current_database()';

# new(GATEWAY, settings => {...}): both run, and the standby confirms.
sub new
{
	my ($class, $gateway, %params) = @_;
	my $primary = Payonce::TestServer->new(
		'primary',
		settings => {
			wal_level => 'replica',
			max_wal_senders => 5,
			hot_standby => 'on',
			%{ $params{settings} // {} },
		});
	my $self = bless { gateway => $gateway, primary => $primary, tried => {} }, $class;
	$primary->add_gateway($gateway);
	$primary->wait_for_worker;
	$self->{standby} = $primary->add_standby('standby');
	# After the backup: the standby, once promoted, has no standby to wait for.
	$primary->make_synchronous('standby');
	return $self;
}

sub primary { return $_[0]{primary}; }
sub standby { return $_[0]{standby}; }

# promote_alone(STANDBY): one that was stopped, without a word from its primary, which may be alive.
sub promote_alone
{
	my ($standby) = @_;
	$standby->write_settings(primary_conninfo => '');
	$standby->node->start;
	$standby->node->promote;
	$standby->wait_for_worker;
	return;
}

# --- Interruptions

# interrupted(SERVER, SQL, HOW): a client that waits for the standby with its commit. HOW gets the
# pid of its backend, and does what ends that wait.
sub interrupted
{
	my ($server, $sql, $how) = @_;
	my $client = IPC::Run::start(
		[
			'psql', '-XAtq', '-d', $server->node->connstr($server->database) . ' application_name=payer',
			'-c', $sql
		],
		'<', '/dev/null', '>', \my $out, '2>', \my $err);
	my $waits = "FROM pg_stat_activity WHERE application_name = 'payer' AND wait_event = 'SyncRep'";
	$server->wait_for("SELECT EXISTS (SELECT $waits)", 'the caller waits for the standby');
	$how->($server->sql("SELECT pid $waits"));
	$client->finish;
	return;
}

# SQL of an administrator who does not wait for the standby.
sub at_once
{
	my ($server, $sql) = @_;
	return $server->sql("SET synchronous_commit = local;\n$sql");
}

# interrupt_worker(SERVER, GATEWAY, REFUND_NO): each wait of the worker's commits is cancelled, until
# it has sent the refund, or has claimed it and waits on by itself. Returns 'sent' or 'held'.
sub interrupt_worker
{
	my ($server, $gateway, $refund_no) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	while (time < $deadline)
	{
		return 'sent' if $gateway->methods($refund_no) ne '';
		my $held = $server->sql(<<"SQL");
SELECT CASE WHEN wait_event = 'SyncRep' THEN NOT pg_cancel_backend(pid)
            ELSE state = 'active' AND wait_event = 'Extension'
             AND EXISTS (SELECT FROM t_refund WHERE refund_no = '$refund_no' AND lease_owner IS NOT NULL)
       END $worker
SQL
		return 'held' if $held eq 't';
		sleep 0.02;
	}
	die "the worker neither sent $refund_no nor waits for the standby:\n" . $server->situation;
}

# --- The story

# The ways in which a decision can become visible without the standby: name => what is done to the
# pid of the backend that waits.
sub ways
{
	my ($self) = @_;
	my $primary = $self->{primary};
	my $cancel = sub { $primary->sql("SELECT pg_cancel_backend($_[0])"); };
	my @ways = (
		cancelled => $cancel,
		terminated => sub { $primary->sql("SELECT pg_terminate_backend($_[0])"); },
		crashed => sub { $primary->crash_process($_[0]); },
		stopped => sub {
			$primary->node->stop('immediate');
			$primary->node->start;
			$primary->wait_for_worker;
		});
	# Whatever the operator has set for commits, of the worker too.
	for my $setting (qw(off local remote_write remote_apply))
	{
		push @ways, $setting => sub {
			at_once($primary, "ALTER DATABASE shop SET synchronous_commit = $setting");
			$cancel->(@_);
		};
	}
	return @ways;
}

# prepare(): while the standby is there, an order for each of the ways, its winner paid.
sub prepare
{
	my ($self) = @_;
	my %ways = $self->ways;
	my @ids = sort keys %ways;
	@{ $self->{callbacks} }{@ids} = $self->{primary}->add_double_payments($self->{gateway}, @ids);
	return;
}

sub repeat_callback
{
	my ($self, $way) = @_;
	return $self->{standby}->sql($self->{callbacks}{$way});
}

# isolate(): the standby is gone, for ever as far as the primary knows. The duplicates of all of the
# orders arrive, each is interrupted in its way, and so is the worker. Returns { way => 'sent' or
# 'held' }.
sub isolate
{
	my ($self) = @_;
	my $primary = $self->{primary};
	$primary->node->wait_for_catchup($self->{standby}->node);
	$self->{standby}->node->stop('immediate');
	my @ways = $self->ways;
	while (my ($way, $how) = splice @ways, 0, 2)
	{
		interrupted($primary, $self->{callbacks}{$way}, $how);
		# One that waits already claims nothing more; its successor claims this one too.
		my $pid = $primary->worker_pid;
		$primary->sql("SELECT pg_terminate_backend($pid)");
		$primary->wait_for_worker($pid);
		$self->{tried}{$way} = interrupt_worker($primary, $self->{gateway}, "$way-2-R1");
	}
	return $self->{tried};
}

# lost_decisions(SERVER): the refunds that the gateway has been sent, and of which this server knows
# nothing. The measure of a failover.
sub lost_decisions
{
	my ($self, $server) = @_;
	my %known = map { $_ => 1 } split /\n/, $server->sql('SELECT refund_no FROM t_refund');
	my %sent = map { $_->{refund_no} => 1 } $self->{gateway}->requests;
	return sort grep { !$known{$_} } keys %sent;
}

1;
