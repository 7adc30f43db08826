# A storm: a merchant with many connections, gateways that fail, and everything of the server and of
# the gateways killed, stopped, terminated and cancelled in the middle of its work, as a seed says.
#
# The seed gives the order and the moments of what is done, the merchant's orders and news, and the
# gateways' dice. What a process is doing when it is hit, the operating system decides.
package Payonce::Chaos;

use strict;
use warnings;

use File::Basename qw(basename dirname);
use JSON::PP ();
use List::Util qw(shuffle sum0);
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::Judge;
use Payonce::MerchantJudge;
use Payonce::TestServer;

my $merchant_program = dirname(__FILE__) . '/../../../chaos/merchant.py';
my $deadline_s = $PostgreSQL::Test::Utils::timeout_default;
my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my %running;    # the merchant's pid => 1

# One round: each of these so often, in an order of its own.
my %round = (
	kill_backend => 3,
	kill_worker => 3,
	kill_launcher => 1,
	kill_postmaster => 1,
	kill_gateway => 3,
	terminate_backends => 1,
	terminate_worker => 1,
	stop_immediately => 1,
	cancel_queries => 2,
	change_faults => 2,
	change_clock => 2);
my @kinds = sort keys %round;
my @round = map { ($_) x $round{$_} } @kinds;

# The processes of a server by their titles.
my %title = (
	backend => qr/^postgres: .*\bmerchant shop /,
	worker => qr/^postgres: .*payonce worker/,
	launcher => qr/^postgres: .*payonce launcher/);

# What a gateway does wrong, by its weather. Nothing is refused for good: no refund needs a person.
# None acts later than it has read a request, so that who asks before sending again is told the truth.
my %weather = (
	fair => [],
	flaky => [
		{ fault => 'drop_before', probability => 0.04, how => 'reset' },
		{ fault => 'drop_after', probability => 0.08 },
		{ fault => '500_before', probability => 0.04 },
		{ fault => '500_after', probability => 0.05 },
		{ fault => '408', probability => 0.02 },
		{ fault => 'truncated', probability => 0.02 },
		{ fault => 'garbage', probability => 0.02, acted => $false },
		{ fault => 'garbage', probability => 0.02 },
		{ fault => 'wrong_status_word', probability => 0.02 },
		{ fault => 'hang_after', probability => 0.01 },
		{ fault => 'delay', probability => 0.3, ms => 100, when => 'after' }
	],
	hail => [
		{ fault => 'drop_after', probability => 0.3, how => 'reset' },
		{ fault => '500_after', probability => 0.3 },
		{ fault => '500_before', probability => 0.2 }
	],
	mute => [
		{ fault => 'hang', probability => 0.1 },
		{ fault => 'hang_after', probability => 0.2 },
		{ fault => 'delay', probability => 0.5, ms => 500, when => 'after' }
	],
	# The dates are those of a clock that lies.
	busy => [
		{ fault => '429', probability => 0.2, form => 'date' },
		{ fault => '503', probability => 0.1, form => 'date' },
		{ fault => 'drop_after', probability => 0.1 }
	]);
my @weathers = sort keys %weather;

# Of a gateway's clock. Not far ahead: a Retry-After of the day after tomorrow is honoured.
my @clocks = ('-400d', '-1h', '-3s', '+2s', '+4s');

# new(seconds => 20, seed => 1, progress => 1): all that is needed, started and at peace.
sub new
{
	my ($class, %params) = @_;
	my $log = "$PostgreSQL::Test::Utils::log_path/" . basename($0, '.pl');
	my $self = bless {
		%params,
		merchant_log => "${log}_merchant.log",
		report_file => "${log}_report.log",
		done => {},        # kind => how often
		victims => 0,      # kill -9
		timeline => [],
		acks => 0,
		down => {},        # gateway => when it is started again
		weather => {},     # gateway => what it was given last
		said_at => 0,
	}, $class;
	$self->{schedule} = [ $self->_schedule ];
	unlink $self->{merchant_log}, $self->{report_file};
	$self->_start_gateways;
	$self->_start_server;
	return $self;
}

# Drawn before anything else draws.
sub _schedule
{
	my ($self) = @_;
	srand $self->{seed};
	my $mean_gap_s = $self->{seconds} < 40 ? $self->{seconds} / 40 : 1;
	my @schedule;
	while (@schedule < @round || sum0(map { $_->{gap_s} } @schedule) < $self->{seconds})
	{
		push @schedule, map {
			{ kind => $_, gap_s => $mean_gap_s * (0.2 + rand 1.6), dice => [ rand, rand, rand ] }
		} shuffle @round;
	}
	return @schedule;
}

# Three of the generic protocol: two that are told apart by what they do, and one with a clock of its
# own, which settles refunds later than it accepts them.
sub _start_gateways
{
	my ($self) = @_;
	my $seed = $self->{seed} % 2**31;
	my $directory = PostgreSQL::Test::Utils::tempdir('clock');
	$self->{clock_file} = "$directory/clock";
	($self->{faketime}) = grep { -e } glob '/usr/lib/*/faketime/libfaketime.so.1';
	$self->_set_clock('+0');
	my @options = ('--seed', $seed);
	$self->{gateways} = {
		steady => Payonce::Gateway->new('steady', options => \@options),
		fickle => Payonce::Gateway->new('fickle', options => \@options),
	};
	$self->_with_clock(sub {
		$self->{gateways}{liar} = Payonce::Gateway->new('liar', options =>
			[ @options, '--mode', '{"mode":"processing","after_ms":300}' ]);
	});
	return;
}

sub _set_clock
{
	my ($self, $offset) = @_;
	# In one step: nobody must read half of it.
	unlink "$self->{clock_file}.new";
	append_to_file("$self->{clock_file}.new", "$offset\n");
	rename "$self->{clock_file}.new", $self->{clock_file} or die "rename: $!";
	return;
}

# Starts something whose clock is that of the clock file.
sub _with_clock
{
	my ($self, $start) = @_;
	local %ENV = (%ENV,
		LD_PRELOAD => $self->{faketime} // die('libfaketime is missing'),
		FAKETIME_TIMESTAMP_FILE => $self->{clock_file},
		FAKETIME_CACHE_DURATION => 1,
		FAKETIME_DONT_FAKE_MONOTONIC => 1,
		NO_FAKE_STAT => 1);
	return $start->();
}

sub _start_server
{
	my ($self) = @_;
	# fsync stays off, as Test::Cluster has it: processes die here, not the operating system, whose
	# cache has all that was written.
	my $server = Payonce::TestServer->new(
		'main',
		settings => {
			'payonce.naptime' => '1s',
			'payonce.request_timeout' => '2s',
			'payonce.lease' => '1h',
			deadlock_timeout => '100ms',
			log_statement => 'none',
			max_connections => 60,
			shared_buffers => '64MB',
			cluster_name => ''
		});
	$self->{server} = $server;
	$server->add_gateway($_) for map { $self->{gateways}{$_} } $self->gateway_names;
	$server->sql(<<'SQL');
CREATE ROLE merchant LOGIN;
GRANT INSERT, SELECT ON t_order, t_order_pay TO merchant;
GRANT EXECUTE ON FUNCTION pay_callback_outcome, order_close, order_lock_key TO merchant;
SQL
	$server->wait_for_worker;
	return;
}

sub server { return $_[0]{server}; }
sub gateway_names { my ($self) = @_; return sort keys %{ $self->{gateways} }; }
sub gateways { my ($self) = @_; return map { $self->{gateways}{$_} } $self->gateway_names; }
sub report_file { return $_[0]{report_file}; }
sub kinds { return @kinds; }
sub done { my ($self, $kind) = @_; return $self->{done}{$kind} // 0; }

# --- The merchant

sub _start_merchant
{
	my ($self) = @_;
	my $node = $self->{server}->node;
	my @command = ('python3', '-B', $merchant_program,
		'--database', $node->connstr($self->{server}->database)
		  . ' user=merchant application_name=merchant connect_timeout=10',
		'--seed', $self->{seed}, '--log', $self->{merchant_log},
		map { ('--gateway', "$_=" . $self->{gateways}{$_}->url) } $self->gateway_names);
	pipe my $reader, my $writer or die "pipe: $!";
	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		open STDIN, '<&', $reader;
		open STDOUT, '>>', "$self->{merchant_log}.output";
		open STDERR, '>&', \*STDOUT;
		close $writer;
		exec { $command[0] } @command or POSIX::_exit(127);
	}
	close $reader;
	$running{$pid} = 1;
	@$self{qw(merchant merchant_stdin)} = ($pid, $writer);
	return;
}

# It ends when everything is acknowledged; the judge reads in its log whether it was.
sub _end_merchant
{
	my ($self) = @_;
	close delete $self->{merchant_stdin};
	my $deadline = time + $deadline_s;
	while (waitpid($self->{merchant}, POSIX::WNOHANG) == 0)
	{
		last if time > $deadline;
		$self->_pause(0.1);
	}
	delete $running{ $self->{merchant} } if !kill 0, $self->{merchant};
	return;
}

sub _count_acks
{
	my ($self) = @_;
	if (!$self->{log_handle})
	{
		open my $handle, '<', $self->{merchant_log} or return 0;
		$self->{log_handle} = $handle;
	}
	my $handle = $self->{log_handle};
	seek $handle, 0, 1;    # its end of before is not its end
	while (my $line = <$handle>)
	{
		$self->{acks}++ if $line =~ /^ack\t/;
	}
	return $self->{acks};
}

# --- The storm

# As long as the schedule wants, and at least one round.
sub storm
{
	my ($self) = @_;
	$self->{started_at} = time;
	$self->_start_merchant;
	my $until = time + $self->{seconds};
	for my $number (0 .. $#{ $self->{schedule} })
	{
		last if time >= $until && $number >= @round;
		my $card = $self->{schedule}[$number];
		$self->_pause($card->{gap_s});
		my $action = "_$card->{kind}";
		$self->_note("$card->{kind}: " . $self->$action(@{ $card->{dice} }));
		$self->{done}{ $card->{kind} }++;
	}
	# Recoveries took less time than was planned for, or more.
	$self->_pause(0.2) while time < $until;
	$self->{storm_s} = time - $self->{started_at};
	return;
}

sub _note
{
	my ($self, $text) = @_;
	push @{ $self->{timeline} }, sprintf '%7.2f s  %s', time - $self->{started_at}, $text;
	return;
}

# Waits, and meanwhile does what is due.
sub _pause
{
	my ($self, $seconds) = @_;
	my $until = time + $seconds;
	do
	{
		my $left = $until - time;
		sleep($left < 0.1 ? $left : 0.1) if $left > 0;
		$self->_start_due_gateways;
		$self->_say if $self->{progress} && time - $self->{said_at} >= 1;
	} while (time < $until);
	return;
}

sub _say
{
	my ($self) = @_;
	$self->{said_at} = time;
	diag sprintf '%d s: %d callbacks acknowledged, %d kills; %s', time - $self->{started_at},
	  $self->_count_acks, $self->{victims}, ($self->{timeline}[-1] // '') =~ s/^.*? s  //r;
	return;
}

# Storm and settlement; a person reads why if that breaks off.
sub run
{
	my ($self) = @_;
	return if eval { $self->storm; $self->settle; 1 };
	my $error = $@;
	my $situation = eval { $self->{server}->situation } // "the server does not answer: $@";
	append_to_file($self->{report_file}, join "\n", "A storm of payonce, seed $self->{seed}", '',
		"It broke off: $error", $situation, 'What was done', '', @{ $self->{timeline} }, '');
	die $error;
}

# --- Processes of this server: the children of the postmaster whose data directory is ours.

sub _postmaster
{
	my ($self) = @_;
	my $data = $self->{server}->node->data_dir;
	my ($pid) = eval { slurp_file("$data/postmaster.pid") } =~ /^(\d+)/ or return;
	# The number in a stale file may be another process's by now.
	my $cwd = readlink "/proc/$pid/cwd" // return;
	return join(':', (stat $cwd)[0, 1]) eq join(':', (stat $data)[0, 1]) ? $pid : undef;
}

sub _processes
{
	my ($self, $title) = @_;
	my $postmaster = $self->_postmaster // return;
	return grep { _title($_) =~ $title }
	  grep { (_read("/proc/$_/stat") =~ /^.*\) \S (\d+)/s ? $1 : 0) == $postmaster }
	  sort { $a <=> $b } map { m{^/proc/(\d+)$} } glob '/proc/[0-9]*';
}

sub _title { my ($pid) = @_; return _read("/proc/$pid/cmdline") =~ s/\0.*//sr; }

# Empty when the process is gone.
sub _read
{
	my ($file) = @_;
	open my $handle, '<', $file or return '';
	local $/ = undef;
	return scalar(<$handle>) // '';
}

# kill -9 of one such process, as soon as there is one: that there is one again is a part of the test.
sub _kill_one
{
	my ($self, $what, $dice) = @_;
	my $deadline = time + $deadline_s;
	while (time < $deadline)
	{
		my @pids = $self->_processes($title{$what});
		my $pid = $pids[ $dice * @pids ];
		my $title = _title($pid // 0);
		if ($pid && kill 'KILL', $pid)
		{
			$self->{victims}++;
			return "$pid ($title)";
		}
		$self->_pause(0.02);
	}
	die "there is no $what after $deadline_s s";
}

sub _kill_backend { my ($self, $dice) = @_; return $self->_kill_one('backend', $dice); }
sub _kill_worker { my ($self, $dice) = @_; return $self->_kill_one('worker', $dice); }
sub _kill_launcher { my ($self, $dice) = @_; return $self->_kill_one('launcher', $dice); }

sub _kill_postmaster
{
	my ($self) = @_;
	my $pid = $self->_postmaster // die 'there is no postmaster';
	my @orphans = $self->_processes(qr/^/);
	$self->{server}->node->kill9;
	$self->{victims}++;
	# It holds the lock file, and its orphans the shared memory.
	my $deadline = time + $deadline_s;
	$self->_pause(0.02)
	  while time < $deadline && (kill(0, $pid) || grep { _title($_) =~ /^postgres: / } @orphans);
	$self->{server}->start_again;
	return $pid;
}

sub _stop_immediately
{
	my ($self) = @_;
	$self->{server}->node->stop('immediate');
	$self->{server}->start_again;
	return 'and started';
}

# --- What goes through SQL: repeated until the server has taken it.

sub _sql
{
	my ($self, $sql) = @_;
	my $deadline = time + $deadline_s;
	my ($stdout, $stderr);
	while (time < $deadline)
	{
		# Who asks may be hit itself.
		my $exit = eval {
			$self->{server}->node->psql($self->{server}->database, $sql, stdout => \$stdout,
				stderr => \$stderr, on_error_stop => 1);
		} // 2;
		return $stdout =~ s/\n/, /gr if $exit == 0;
		$self->_pause(0.05);
	}
	die "the server does not take: $sql\n$stderr";
}

sub _terminate_backends
{
	my ($self, $dice) = @_;
	my $count = 1 + int 6 * $dice;
	return $self->_sql("SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity"
		. " WHERE usename = 'merchant' ORDER BY hashint4(pid) LIMIT $count");
}

sub _terminate_worker
{
	my ($self) = @_;
	return $self->_sql("SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity"
		. " WHERE backend_type = 'payonce worker'");
}

# Of whoever is at work, the worker too.
sub _cancel_queries
{
	my ($self) = @_;
	return $self->_sql("SELECT pid, pg_cancel_backend(pid) FROM pg_stat_activity"
		. " WHERE usename = 'merchant' AND state = 'active' OR backend_type = 'payonce worker'");
}

# --- Gateways

sub _pick
{
	my ($dice, @from) = @_;
	return $from[ $dice * @from ];
}

# Dead for up to a second and a half.
sub _kill_gateway
{
	my ($self, $dice, $for) = @_;
	my $name = _pick($dice, $self->gateway_names);
	$self->_start_gateway($name) if $self->{down}{$name};
	$self->{gateways}{$name}->kill9;
	$self->{victims}++;
	$self->{down}{$name} = time + 1.5 * $for;
	return $name;
}

sub _start_due_gateways
{
	my ($self) = @_;
	$self->_start_gateway($_) for grep { $self->{down}{$_} <= time } sort keys %{ $self->{down} };
	return;
}

sub _start_gateway
{
	my ($self, $name) = @_;
	my $gateway = $self->{gateways}{$name};
	delete $self->{down}{$name};
	if ($name eq 'liar') { $self->_with_clock(sub { $gateway->start }); }
	else { $gateway->start; }
	$gateway->faults(@{ $weather{ $self->{weather}{$name} // 'fair' } });
	return;
}

sub _change_faults
{
	my ($self, @dice) = @_;
	my @names = $self->gateway_names;
	for my $i (0 .. $#names)
	{
		my $weather = $self->{weather}{ $names[$i] } = _pick($dice[$i], @weathers);
		# One that is dead gets it when it starts.
		$self->{gateways}{ $names[$i] }->faults(@{ $weather{$weather} })
		  if !$self->{down}{ $names[$i] };
	}
	return join ', ', map { "$_ $self->{weather}{$_}" } @names;
}

sub _change_clock
{
	my ($self, $dice) = @_;
	my $offset = _pick($dice, @clocks);
	$self->_set_clock($offset);
	return "liar $offset";
}

# --- The end

# No more faults: the gateways are good and their clocks right, all callbacks get through, and each
# refund comes to its end. Takes as long as it takes, within a limit; the judge sees what is left.
sub settle
{
	my ($self) = @_;
	my $started_at = time;
	$self->_note('the faults end');
	$self->_set_clock('+0');
	$self->{weather} = {};
	for my $name ($self->gateway_names)
	{
		$self->{gateways}{$name}->stop;
		$self->_start_gateway($name);
	}
	$self->_end_merchant;
	$self->_note('the merchant has ended');
	my $deadline = time + $deadline_s;
	my $left;
	while (($left = $self->_sql('SELECT count(*) FROM t_refund WHERE status IN (0, 100, 150, 200)')) > 0
		&& time < $deadline)
	{
		$self->_pause(0.2);
	}
	$self->_note("$left refunds are under way");
	$self->{settle_s} = time - $started_at;
	return;
}

# All that is judged, read once.
sub evidence
{
	my ($self) = @_;
	my $json = JSON::PP->new->utf8;
	return $self->{evidence} //= {
		log => Payonce::MerchantJudge::read_log($self->{merchant_log}),
		tables => $json->decode($self->{server}->sql(Payonce::Judge::tables_query())),
		ledgers => { map { $_->name => $_->ledger('payments', 'refunds') } $self->gateways },
	};
}

# The judgement of MerchantJudge, by this or by other evidence.
sub complaints
{
	my ($self, $evidence) = @_;
	return Payonce::MerchantJudge::complaints(@{ $evidence // $self->evidence }{qw(log tables ledgers)});
}

# What happened, in lines for a person.
sub figures
{
	my ($self) = @_;
	my %log = %{ $self->evidence->{log} };
	my @complaints = $self->complaints;
	my %count;
	$count{ $_->{kind} }++ for @complaints;
	my @summaries = map { $_->summary } $self->gateways;
	my %faults;
	for my $of_gateway (map { $_->{faults} } @summaries)
	{
		$faults{$_} += $of_gateway->{$_} for keys %$of_gateway;
	}
	my $list = sub { my ($of) = @_; return join ', ', map { "$_ $of->{$_}" } sort keys %$of; };
	return (
		"seed $self->{seed}",
		sprintf('%.0f s of faults, settled %.1f s later', @$self{qw(storm_s settle_s)}),
		"$self->{victims} kills with signal 9; done: " . $list->($self->{done}),
		"$log{acks} callbacks acknowledged, "
		  . sprintf('%.0f a second; ', $log{acks} / ($self->{storm_s} + $self->{settle_s}))
		  . keys(%{ $log{orders} }) . ' orders, ' . keys(%{ $log{payments} }) . ' payments',
		'errors that the merchant met: ' . $list->($log{errors}),
		sum0(map { $_->{succeeded} } @summaries) . ' refunds paid out, '
		  . sum0(map { $_->{requests} } @summaries) . ' requests at the gateways; their faults: '
		  . $list->(\%faults),
		'calls whose answer was lost with their worker: '
		  . $self->{server}->sql("SELECT count(*) FROM t_refund_attempt WHERE verdict = 'lost'"),
		join(', ', map { ($count{$_} // 0) . " $_" } qw(lost double stuck wrong)));
}

# For a person: the figures, what is wrong with all that is known of it, and what was done when.
sub write_report
{
	my ($self, @more) = @_;
	my @complaints = $self->complaints;
	my @lines = ('A storm of payonce', '', $self->figures, '');
	push @lines, 'Complaints', '', (map { "$_->{kind}: $_->{text}" } @complaints), @more, '',
	  "The server's log, the merchant's and the gateways' are beside this file.", ''
	  if @complaints || @more;
	my %seen;
	my @orders = grep { defined && !$seen{$_}++ } map { $_->{order} } @complaints;
	push @lines, map { $self->_story_of($_) } splice @orders, 0, 10;
	push @lines, 'What was done', '', @{ $self->{timeline} };
	append_to_file($self->{report_file}, join('', map { "$_\n" } @lines));
	return;
}

sub _story_of
{
	my ($self, $order) = @_;
	my @lines = ("--- Order $order", '', 'What the merchant was told:');
	push @lines, grep { /\t\Q$order\E(?:-\d+)?\t/ } split /\n/, slurp_file($self->{merchant_log});
	push @lines, '', 'The tables:', split /\n/, $self->{server}->sql(<<"SQL", extra_params => ['-x']);
\\echo t_order
SELECT * FROM t_order WHERE id = '$order';
\\echo t_order_pay
SELECT * FROM t_order_pay WHERE order_id = '$order' ORDER BY id;
\\echo t_refund
SELECT * FROM t_refund WHERE payment_id ~ '^$order-' ORDER BY refund_no;
\\echo t_refund_attempt
SELECT * FROM t_refund_attempt WHERE refund_no ~ '^$order-' ORDER BY refund_no, attempt, recorded_at;
SQL
	for my $gateway ($self->gateways)
	{
		my $ledger = $gateway->ledger('payments', 'refunds', 'requests');
		push @lines, '', 'The ledger of ' . $gateway->name . ':';
		for my $table (sort keys %$ledger)
		{
			push @lines, map { "$table  " . _row($_) }
			  grep { ($_->{payment_id} // $_->{refund_no} // '') =~ /^\Q$order\E-/ } @{ $ledger->{$table} };
		}
	}
	return (@lines, '');
}

sub _row
{
	my ($row) = @_;
	return join ' ', map { "$_=" . ($row->{$_} // '-') } sort keys %$row;
}

END
{
	local $? = $?;
	kill 'KILL', keys %running;
	waitpid $_, 0 for keys %running;
}

1;
