# The story of a primary that loses its synchronous standby in the middle of its work, goes on alone,
# and is replaced by it. Told twice: with payonce as it is, and with a build in which the barrier
# before the first byte is left out.
package Payonce::Failover;

use strict;
use warnings;

use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

# new(SETTING => value, ...): a primary, its synchronous standby, and a gateway that both know. The
# gateway hangs with one refund that the standby knows of.
sub new
{
	my ($class, %settings) = @_;
	my $gateway = Payonce::Gateway->new('wechat');
	my $primary = Payonce::TestServer->new(
		'primary',
		settings => {
			wal_level => 'replica',
			max_wal_senders => 5,
			restart_after_crash => 'on',
			'payonce.request_timeout' => '600s',
			%settings,
		});
	$primary->add_gateway($gateway);
	$primary->wait_for_worker;
	my $standby = $primary->add_standby('standby');
	my $self = bless {
		gateway => $gateway,
		primary => $primary,
		standby_node => $standby->node,
		standby => $standby,
	}, $class;
	$primary->make_synchronous('standby');
	$primary->wait_refunded($primary->pay_twice($gateway, 'together'));
	# Orders of before, whose callbacks come when the standby is gone.
	$self->{news} = { map { $_ => $primary->add_double_payments($gateway, $_) }
		  qw(cancelled crashed isolated) };
	($self->{in_flight}) = $primary->pay_twice_hanging($gateway, 'flight');
	$primary->node->wait_for_catchup($standby->node);
	return $self;
}

sub gateway { return $_[0]{gateway}; }
sub primary { return $_[0]{primary}; }
sub standby { return $_[0]{standby}; }
sub in_flight { return $_[0]{in_flight}; }

# From here on the standby hears nothing more of the primary.
sub cut_off
{
	my ($self) = @_;
	$self->{standby_node}->stop('immediate');
	$self->{standby_node}->append_conf('postgresql.conf', "primary_conninfo = ''");
	$self->{gateway}->faults();
	return;
}

# A session that decides about the duplicate of this order, and waits in vain for the standby.
sub _waiting_callback
{
	my ($self, $order) = @_;
	my $session = $self->{primary}->session;
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	$session->query_until(qr/^sent$/m, "\\echo sent\n$self->{news}{$order};\n");
	$self->{primary}->wait_for(
		"SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = $pid",
		'the callback waits for the standby');
	return ($session, $pid);
}

# Its wait is cancelled: the decision becomes visible, though no standby has it.
sub cancel_callback
{
	my ($self, $order) = @_;
	my ($session, $pid) = $self->_waiting_callback($order);
	$self->{primary}->sql("SELECT pg_cancel_backend($pid)");
	$session->query('SELECT');
	$session->quit;
	return;
}

# The primary is crash-restarted during its wait: the same, without anybody having been told.
sub crash_during_callback
{
	my ($self, $order) = @_;
	my ($session, $pid) = $self->_waiting_callback($order);
	$self->{primary}->crash_process($pid);
	eval { $session->quit };
	return;
}

# PostgreSQL's own waits for the standby, one at each of the worker's commits, are cancelled until
# IS_DONE: so nothing of PostgreSQL's holds it back.
sub free_worker
{
	my ($self, $is_done, $what) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	until ($is_done->())
	{
		die "waited in vain until $what" if time > $deadline;
		$self->{primary}->sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
			  . " WHERE backend_type = 'payonce worker' AND wait_event = 'SyncRep'");
		sleep 0.05;
	}
	return;
}

# Whether the worker has claimed and committed, and goes no further.
sub is_at_barrier
{
	my ($self) = @_;
	return $self->{primary}->sql(<<'SQL') eq 't';
SELECT coalesce(bool_and(state = 'active' AND wait_event = 'Extension'), false)
  AND EXISTS (SELECT FROM t_refund WHERE status = 100)
FROM pg_stat_activity WHERE backend_type = 'payonce worker'
SQL
}

sub promote_standby
{
	my ($self) = @_;
	$self->{standby_node}->start;
	$self->{standby_node}->promote;
	$self->{standby}->wait_for_worker;
	return;
}

# The refunds of which a request arrived at the gateway, and of which the new primary knows nothing.
sub sent_but_forgotten
{
	my ($self) = @_;
	my %known = map { $_ => 1 } split /\n/,
	  $self->{standby}->sql('SELECT refund_no FROM t_refund');
	my %asked = map { $_->{refund_no} => 1 }
	  grep { $_->{method} eq 'POST' } $self->{gateway}->requests;
	return sort grep { !$known{$_} } keys %asked;
}

1;
