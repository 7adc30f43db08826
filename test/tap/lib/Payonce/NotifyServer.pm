# The example application (examples/notify_server.py) as a TAP script sees it: it takes the gateways'
# notifications and hands them to pay_notify.
package Payonce::NotifyServer;

use strict;
use warnings;

use File::Basename qw(basename dirname);
use POSIX ();
use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

my $program = dirname(__FILE__) . '/../../../../examples/notify_server.py';
my $deadline_s = $PostgreSQL::Test::Utils::timeout_default;
my %running;    # pid => 1

# new(SERVER): for a Payonce::TestServer; started.
sub new
{
	my ($class, $server) = @_;
	my $directory = PostgreSQL::Test::Utils::tempdir('notify_server');
	my $self = bless {
		server => $server,
		port => PostgreSQL::Test::Cluster::get_free_port(),
		port_file => "$directory/port",
		log_file => "$PostgreSQL::Test::Utils::log_path/" . basename($0, '.pl') . '_notify.log',
	}, $class;
	$self->start;
	return $self;
}

# Where a gateway of this name sends its notifications.
sub url { return "http://127.0.0.1:$_[0]{port}/notify/$_[1]"; }

sub start
{
	my ($self) = @_;
	unlink $self->{port_file};
	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		my $node = $self->{server}->node;
		%ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port,
			PGDATABASE => $self->{server}->database);
		open STDIN, '<', '/dev/null';
		open STDOUT, '>>', $self->{log_file};
		open STDERR, '>&', \*STDOUT;
		exec 'python3', '-B', $program, '--port', $self->{port}, '--port-file',
		  $self->{port_file} or POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	$running{$pid} = 1;
	my $deadline = time + $deadline_s;
	until (-e $self->{port_file})
	{
		die "the application did not start, see $self->{log_file}"
		  if waitpid($pid, POSIX::WNOHANG) != 0 || time > $deadline;
		sleep 0.02;
	}
	return;
}

sub stop
{
	my ($self) = @_;
	my $pid = delete $self->{pid} // return;
	kill 'KILL', $pid;
	waitpid $pid, 0;
	delete $running{$pid};
	return;
}

# "/notify/GATEWAY STATUS OUTCOME" of each notification, in their order; of one gateway, or all.
sub answers
{
	my ($self, $gateway) = @_;
	my $prefix = '/notify/' . ($gateway // '');
	return grep { index($_, $prefix) == 0 } split /\n/, slurp_file($self->{log_file});
}

END
{
	local $? = $?;
	kill 'KILL', keys %running;
	waitpid $_, 0 for keys %running;
}

1;
