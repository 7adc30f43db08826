# Small stories of two phones that pay one order, each told so that it comes by certain fault points:
# whatever happens there, those who are called again call again, and the story has its good end.
package Payonce::Stories;

use strict;
use warnings;

use IPC::Run ();
use JSON::PP ();
use Test::More;
use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Utils;
use Payonce::Faults;
use Payonce::Gateway;
use Payonce::Judge;

my $secret = 'whsec_' . 'cGF5b25jZSB0ZXN0cyBpdHMgZmF1bHQgcG9pbnRz';

# A point that is missing here is not walked, which each_point() takes for a mistake.
my %story_of = (
	(map { $_ => 'callbacks' } qw(callback_begun callback_locked callback_reread callback_order_paid
		callback_payment_written callback_refund_queued callback_decided decision_committing
		decision_committed)),
	(map { $_ => 'notices' } qw(notice_begun notice_decided notice_applied notice_released)),
	notice_stray_kept => 'stray',
	notice_refund_locked => 'refund_news',
	(map { $_ => 'refunds' } qw(claim_begun claim_collected claim_committed claim_confirmed
		call_started calls_started answers_due record_begun answer_locked refund_step_written
		answer_applied answer_recorded record_committing answers_committed answer_released)),
	network_moved => 'under_way',
	(map { $_ => 'lost_leases' } qw(lease_found lease_loss_recorded lease_ended leases_recovered)),
	(map { $_ => 'no_gateway' } qw(give_up_locked given_up)),
);
my %story_of_allocation = (
	engine_configure => 'new_keys',
	engine_start => 'refunds',
	engine_give_back => 'given_back',
	engine_advance => 'refunds',
	notice_keep_gateway => 'notices',
	notice_read => 'notices',
);
my %is_of_backends = map { $_ => 1 } qw(callbacks notices stray refund_news);

# The gateways of all stories: one that settles at once, one that takes its time, and one that has
# no server at first.
sub gateways
{
	return {
		prompt => Payonce::Gateway->new('prompt', options => [ '--signing-secret', $secret ]),
		slow => Payonce::Gateway->new('slow',
			options => [ '--mode', 'processing', '--signing-secret', $secret ]),
		late => Payonce::Gateway->new('late'),
	};
}

# What a database needs for the stories.
sub prepare
{
	my ($server, $gateways) = @_;
	for my $name ('prompt', 'slow')
	{
		$server->add_gateway($gateways->{$name});
		$server->map_user($name, signing_secret => $secret);
	}
	return;
}

# copy_of(SERVER, NAME): a copy of the prepared database that sends by itself.
sub copy_of
{
	my ($server, $name) = @_;
	my $copy = $server->in_database($name);
	$server->node->safe_psql('postgres', "CREATE DATABASE $name TEMPLATE " . $server->database);
	$copy->sql('SELECT payonce_activate()');
	return $copy;
}

# judge_all_ok(GATEWAYS, DATABASE, ...): the ledgers of the gateways against all databases together.
sub judge_all_ok
{
	my ($gateways, @databases) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my %tables;
	for my $database (@databases)
	{
		my $of_one = JSON::PP->new->utf8->decode($database->sql(Payonce::Judge::tables_query()));
		push @{ $tables{$_} }, @{ $of_one->{$_} } for keys %$of_one;
		is($database->sql(<<'SQL'), '', $database->database . ': all is well, and nobody is needed');
SELECT kind, id FROM payonce_check() UNION ALL SELECT kind, id FROM payonce_attention
UNION ALL SELECT 'unsettled', refund_no FROM t_refund WHERE status <> 300 OR lease_owner IS NOT NULL
SQL
	}
	is(join("\n", Payonce::Judge::complaints(\%tables, values %$gateways)), '',
		'the ledgers agree with the tables, nothing was paid out twice');
	return;
}

# new(SERVER, GATEWAYS): stories in a database that is prepared.
sub new
{
	my ($class, $server, $gateways) = @_;
	return bless { server => $server, faults => Payonce::Faults->new($server), %$gateways }, $class;
}

# The library's points; the script ends if one has no story.
sub each_point { my ($server) = @_; return _told($server, 'fault', \%story_of); }
sub each_allocation_point { my ($server) = @_; return _told($server, 'allocation', \%story_of_allocation); }

sub _told
{
	my ($server, $kind, $stories) = @_;
	my @points = Payonce::Faults::points($server, $kind);
	my %known = map { $_ => 1 } @points;
	die "no story comes by $_" for grep { !$stories->{$_} } @points;
	die "there is no point $_" for grep { !$known{$_} } keys %$stories;
	return @points;
}

# Whether the point is a matter of the backends' alone.
sub is_of_backends { my ($point) = @_; return $is_of_backends{ $story_of{$point} }; }

# begin(POINT, ACTION): tells the story up to where the fault is bound to happen. Returns a function
# that waits for the fault, and one that waits for the story's end.
sub begin
{
	my ($self, $point, $action) = @_;
	my $teller = '_' . ($story_of{$point} // $story_of_allocation{$point});
	my $id = join '-', $point, $action =~ s/ /_/gr, ++$self->{count};
	my $end = $self->$teller($id, sub { $self->{faults}->arm($point, $action) });
	return (sub { $self->{faults}->wait_hit($point) }, $end);
}

# --- Those who call again until they are answered

# insist(SQL): as applications and gateways do, until it succeeds and its last line is true. As
# TestServer::wait_for, without a pipe into psql.
sub insist
{
	my ($self, $sql) = @_;
	my $server = $self->{server};
	my @command = ($server->node->installed_command('psql'), '--no-psqlrc', '-Atq',
		'-d', $server->node->connstr($server->database), '-c', $sql);
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	my ($stdout, $stderr);
	while (time < $deadline)
	{
		my $succeeded =
		  IPC::Run::run(\@command, '<', '/dev/null', '>', \$stdout, '2>', \$stderr);
		return if $succeeded && $stdout =~ /^t$/m;
		sleep 0.05;
	}
	die "insisted in vain on $sql\n$stdout$stderr";
}

# All of the callbacks in one transaction.
sub call_back
{
	my ($self, @payment_ids) = @_;
	return $self->insist(join ";\n", 'BEGIN',
		(map { $self->{server}->callback_sql($_) } @payment_ids), 'COMMIT', 'SELECT true');
}

# notify_sql(GATEWAY, WHAT, news => ...): hands a gateway's news to pay_notify; true if WHAT holds.
sub notify_sql
{
	my ($self, $gateway, $what, %news) = @_;
	my $made = $gateway->notify({ deliver => JSON::PP::false, %news });
	my $told = $made->{notifications}[0];
	my $headers = JSON::PP->new->utf8->encode($told->{headers});
	return "SELECT $what FROM pay_notify('" . $gateway->name
	  . "', \$h\$$headers\$h\$, \$b\$$told->{body}\$b\$)";
}

sub add_order
{
	my ($self, $gateway, $id, $payments) = @_;
	$self->{server}->add_orders(
		{ id => $id, payments => [ map { [ "$id-$_", $gateway ] } 1 .. $payments ] });
	return;
}

# --- The stories: _NAME(ID, ARM) return what waits for their end.

sub _callbacks
{
	my ($self, $id, $arm) = @_;
	$self->add_order($self->{prompt}, $id, 2);
	$arm->();
	$self->call_back("$id-1");
	$self->call_back("$id-2");
	return sub { $self->{server}->wait_refunded("$id-2-R1") };
}

sub _notices
{
	my ($self, $id, $arm) = @_;
	$self->add_order($self->{prompt}, $id, 2);
	my @news = map {
		$self->notify_sql($self->{prompt}, 'http_status = 200', kind => 'payment',
			payment_id => "$id-$_")
	} 1, 2;
	$arm->();
	$self->insist($_) for @news;
	return sub { $self->{server}->wait_refunded("$id-2-R1") };
}

# The money is there before its payment.
sub _stray
{
	my ($self, $id, $arm) = @_;
	my ($server, $gateway) = @$self{qw(server prompt)};
	$self->add_order($gateway, $id, 1);
	$self->call_back("$id-1");
	$gateway->add_payments({ payment_id => "$id-2", amount => 3200, currency => 'CNY',
		transaction_id => "T-$id-2" });
	my @about = ($gateway, undef, kind => 'payment', payment_id => "$id-2");
	$arm->();
	$about[1] = "outcome = 'unknown'";
	$self->insist($self->notify_sql(@about));
	$server->sql('INSERT INTO t_order_pay (id, order_id, price, gateway)'
		. " VALUES ('$id-2', '$id', 3200, 'prompt')");
	$about[1] = 'http_status = 200';
	$self->insist($self->notify_sql(@about));
	return sub {
		$server->wait_refunded("$id-2-R1");
		is($server->sql('SELECT count(*), count(handled_at) FROM t_stray_notification'
				. " WHERE number = '$id-2'"), '1|1', "$id: the stray news was kept once, and found");
	};
}

sub _refund_news
{
	my ($self, $id, $arm) = @_;
	my ($server, $gateway) = @$self{qw(server slow)};
	$self->add_order($gateway, $id, 2);
	$self->call_back("$id-1", "$id-2");
	$server->wait_status(200, "$id-2-R1");
	$gateway->settle("$id-2-R1", 'succeeded');
	my $news = $self->notify_sql($gateway, 'http_status = 200', kind => 'refund',
		refund_no => "$id-2-R1");
	$arm->();
	$self->insist($news);
	return sub { $server->wait_refunded("$id-2-R1") };
}

# Two refunds in one claim, so that there is something between two calls.
sub _refunds
{
	my ($self, $id, $arm) = @_;
	$self->add_order($self->{prompt}, $id, 3);
	$self->call_back("$id-1");
	$arm->();
	$self->call_back("$id-2", "$id-3");
	return sub { $self->{server}->wait_refunded("$id-2-R1", "$id-3-R1") };
}

# The gateway has acted, and its answer is not there yet.
sub _under_way
{
	my ($self, $id, $arm) = @_;
	my $gateway = $self->{prompt};
	$gateway->faults({ fault => 'hang_after', on => 'refund', match => "^$id-2-", count => 1 });
	$self->add_order($gateway, $_, 2) for $id, "$id-w";
	$self->call_back("$id-1", "$id-2", "$id-w-1");
	$gateway->wait_for(in_flight => 1, refund_no => "$id-2-R1");
	$arm->();
	# Wakes the worker.
	$self->call_back("$id-w-2");
	return sub { $self->{server}->wait_refunded("$id-2-R1", "$id-w-2-R1") };
}

# What was claimed and not sent is a lost lease.
sub _lost_leases
{
	my ($self, $id, $arm) = @_;
	$self->{faults}->arm('claim_committed', 'error');
	return $self->_refunds($id, $arm);
}

# The engine gets a gateway with another secret, and its refunds after that.
sub _new_keys
{
	my ($self, $id, $arm) = @_;
	my $server = $self->{server};
	my $mapping = 'ALTER USER MAPPING FOR CURRENT_USER SERVER prompt OPTIONS';
	$arm->();
	$server->sql("$mapping (ADD bearer_token 'of-no-interest')");
	my $refunded = $self->_refunds($id, sub { });
	return sub { $refunded->(); $server->sql("$mapping (DROP bearer_token)"); };
}

# An application says that a refund failed, and a person has it tried again, while its first request
# is still under way.
sub _given_back
{
	my ($self, $id, $arm) = @_;
	my ($server, $gateway) = @$self{qw(server prompt)};
	$gateway->faults({ fault => 'hang_after', on => 'refund', match => "^$id-2-", count => 1 });
	$self->add_order($gateway, $id, 2);
	$self->call_back("$id-1", "$id-2");
	$gateway->wait_for(in_flight => 1, refund_no => "$id-2-R1");
	$arm->();
	$server->sql("SELECT refund_callback('$id-2-R1', false)");
	$server->sql("SELECT refund_retry('$id-2-R1')");
	return sub { $server->wait_refunded("$id-2-R1") };
}

sub _no_gateway
{
	my ($self, $id, $arm) = @_;
	my ($server, $gateway) = @$self{qw(server late)};
	$server->sql('SET client_min_messages = warning; DROP SERVER IF EXISTS late CASCADE');
	$self->add_order($gateway, $id, 2);
	$self->call_back("$id-1");
	$arm->();
	$self->call_back("$id-2");
	return sub {
		$server->wait_status(500, "$id-2-R1");
		$server->add_gateway($gateway);
		$self->insist("SELECT refund_retry('$id-2-R1') IS NOT NULL");
		$server->wait_refunded("$id-2-R1");
	};
}

1;
