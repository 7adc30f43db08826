# A stand-in gateway (test/gateway) as a TAP script sees it: a process to start, stop and kill, the
# administrator's commands, and its ledger, which is the judge of what was paid out.
package Payonce::Gateway;

use strict;
use warnings;

use File::Basename qw(basename dirname);
use HTTP::Tiny;
use JSON::PP;
use POSIX ();
use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

my $deadline_s = $PostgreSQL::Test::Utils::timeout_default;
my $program = $ENV{PAYONCE_GATEWAY}
  // dirname(__FILE__) . '/../../../gateway/stand_in_gateway.py';
my $vectors = dirname(__FILE__) . '/../../../vectors';
my $json = JSON::PP->new->utf8->canonical;
my %running;    # pid => 1

# Reads the tables that the gateway's README documents; works beside a running gateway and after
# its death.
my $ledger_reader = <<'PYTHON';
import json, sqlite3, sys
from urllib.parse import quote
db = sqlite3.connect(f"file:{quote(sys.argv[1])}?mode=ro", uri=True)
db.row_factory = sqlite3.Row
tables = sys.argv[2:] or ("payments", "refunds", "requests", "counters")
print(json.dumps({name: [dict(row) for row in db.execute(f"SELECT * FROM {name}")]
                  for name in tables}))
PYTHON

# new(NAME, protocol => 'http', options => [...], forgets => 0, provokes => [...]): made and started.
# The protocol is that of payonce's wrapper: http, wechat, alipay or stripe; the keys are those of
# test/vectors. Options are those of `stand_in_gateway.py serve`. Payments that nobody made are not
# refunded. Unless `forgets` is false, a refund's number protects from nothing: sent a second time,
# the money leaves a second time or, if the payment has no more, the refund is refused. A query would
# have found it; so who does not ask before is caught. `provokes` names the ledger's counters of what
# the script itself has it refuse, such as signature_failures.
sub new
{
	my ($class, $name, %params) = @_;
	my $directory = PostgreSQL::Test::Utils::tempdir("gateway_$name");
	my @forgets = $params{forgets} // 1 ? ('--idempotency-horizon-ms', 0) : ();
	my $protocol = $params{protocol} // 'http';
	my @protocol = ('--protocol', $protocol);
	push @protocol, '--keys', "$vectors/$protocol" if -e "$vectors/$protocol/params.json";
	my $self = bless {
		name => $name,
		protocol => $protocol,
		port => free_port(),
		options => [ '--strict-payments', @protocol, @forgets, @{ $params{options} // [] } ],
		provokes => $params{provokes} // [],
		ledger_file => "$directory/$name.ledger",
		port_file => "$directory/$name.port",
		log_file => "$PostgreSQL::Test::Utils::log_path/"
		  . basename($0, '.pl') . "_gateway_$name.log",
	}, $class;
	$self->start;
	return $self;
}

sub name { return $_[0]{name}; }
sub protocol { return $_[0]{protocol}; }
sub port { return $_[0]{port}; }
sub url { return "http://127.0.0.1:$_[0]{port}"; }
sub log_file { return $_[0]{log_file}; }
sub provoked { return @{ $_[0]{provokes} }; }

# Reserved for this script, and not of those that the system gives to clients: while the gateway is
# down, nobody else gets it.
sub free_port { return PostgreSQL::Test::Cluster::get_free_port(); }

# start(OPTION...): on the port it had before; returns when it takes requests. The options
# given here come after those of new().
sub start
{
	my ($self, @options) = @_;
	unlink $self->{port_file};
	my @command = (
		'python3', '-B', $program, 'serve',
		'--name', $self->{name}, '--ledger', $self->{ledger_file},
		'--port', $self->{port}, '--port-file', $self->{port_file},
		@{ $self->{options} }, @options);
	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		open STDIN, '<', '/dev/null';
		open STDOUT, '>>', $self->{log_file};
		open STDERR, '>&', \*STDOUT;
		exec { $command[0] } @command or POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	$running{$pid} = 1;
	my $deadline = time + $deadline_s;
	until (-e $self->{port_file})
	{
		die "gateway $self->{name} did not start, see $self->{log_file}"
		  if waitpid($pid, POSIX::WNOHANG) != 0 || time > $deadline;
		sleep 0.02;
	}
	return;
}

# stop(SIGNAL): TERM, and so an end in order, by default. Connections are refused afterwards.
sub stop
{
	my ($self, $signal) = @_;
	my $pid = delete $self->{pid} // return;
	kill $signal // 'TERM', $pid;
	waitpid $pid, 0;
	delete $running{$pid};
	return;
}

sub kill9 { return $_[0]->stop('KILL'); }

# The same gateway at another port.
sub move
{
	my ($self, @options) = @_;
	$self->stop;
	$self->{port} = free_port();
	return $self->start(@options);
}

sub restart
{
	my ($self, @options) = @_;
	$self->stop;
	return $self->start(@options);
}

# --- The administrator's commands: test/gateway/README.md says what they do. Over http only.

sub faults { my ($self, @rules) = @_; return $self->_post('faults', \@rules); }
sub mode { my ($self, $mode) = @_; return $self->_post('mode', $mode); }
sub add_payments { my ($self, @payments) = @_; return $self->_post('payments', \@payments); }
sub notify { my ($self, $wanted) = @_; return $self->_post('notify', $wanted); }

# What was told, or is still being told, to the application.
sub notifications
{
	my ($self, %narrow) = @_;
	return @{ $self->_get('notifications', %narrow) };
}

# Until the application has acknowledged all of it.
sub wait_acknowledged
{
	my ($self) = @_;
	my $deadline = time + $deadline_s;
	my @open;
	while (@open = grep { !$_->{acknowledged} } $self->notifications)
	{
		die "$self->{name}: not acknowledged: " . $json->encode(\@open) if time > $deadline;
		sleep 0.05;
	}
	return;
}

sub refuse { my ($self, $ms) = @_; return $self->_post('refuse', { ms => $ms }); }
sub connections { return $_[0]->_get('connections'); }

sub settle
{
	my ($self, $refund_no, $state, $error) = @_;
	return $self->_post('settle', { refund_no => $refund_no, state => $state, error => $error });
}

# The requests of one refund, or all (at most 1000), the oldest first.
sub requests
{
	my ($self, $refund_no) = @_;
	return @{ $self->_get('requests', $refund_no ? (refund_no => $refund_no) : ()) };
}

# "POST" or "GET" of each request of a refund, in their order.
sub methods
{
	my ($self, $refund_no) = @_;
	return join ' ', map { $_->{method} } $self->requests($refund_no);
}

# wait_for(requests => 3, refund_no => ..., on => 'query'): until so many were ever filed;
# wait_for(in_flight => 3, ...): until so many are open at once. Returns how many there are then.
sub wait_for
{
	my ($self, $what, $at_least, %narrow) = @_;
	my $reached = $self->_get('wait', what => $what, at_least => $at_least,
		timeout_ms => 1000 * $deadline_s, %narrow);
	return $reached->{$what};
}

# --- The ledger, read from its file.

# How many requests were ever filed.
sub request_count { return $_[0]->summary->{requests}; }

# As `stand_in_gateway.py ledger --json` prints it.
sub summary
{
	my ($self) = @_;
	return _run_json('python3', '-B', $program, 'ledger', '--ledger', $self->{ledger_file},
		'--json');
}

# ledger(TABLE...): { payments => [...], refunds => [...], requests => [...], counters => [...] }: all
# rows, of the named tables only if any is named.
sub ledger
{
	my ($self, @tables) = @_;
	return _run_json('python3', '-B', '-c', $ledger_reader, $self->{ledger_file}, @tables);
}

# The ledger's row of a refund; undef if it was never accepted.
sub refund
{
	my ($self, $refund_no) = @_;
	my ($row) = grep { $_->{refund_no} eq $refund_no } @{ $self->ledger->{refunds} };
	return $row;
}

sub _run_json
{
	my @command = @_;
	open my $pipe, '-|', @command or die "$command[0]: $!";
	local $/ = undef;
	my $printed = <$pipe>;
	close $pipe or die "$command[0] ended with $?";
	return $json->decode($printed);
}

sub _get
{
	my ($self, $command, %parameters) = @_;
	my $query = HTTP::Tiny->new->www_form_urlencode(\%parameters);
	return $self->_call('GET', $command . ($query eq '' ? '' : "?$query"));
}

sub _post
{
	my ($self, $command, $body) = @_;
	return $self->_call('POST', $command, $json->allow_nonref->encode($body));
}

sub _call
{
	my ($self, $method, $target, $body) = @_;
	my $http = HTTP::Tiny->new(timeout => $deadline_s + 10, keep_alive => 0, proxy => undef,
		http_proxy => undef);
	my $answer = $http->request($method, "http://127.0.0.1:$self->{port}/admin/$target",
		defined $body ? { content => $body } : {});
	die "$self->{name}: $method $target: $answer->{status} $answer->{content}"
	  unless $answer->{success};
	return $json->decode($answer->{content});
}

END
{
	# The script's exit status is not ours to change.
	local $? = $?;
	kill 'KILL', keys %running;
	waitpid $_, 0 for keys %running;
}

1;
