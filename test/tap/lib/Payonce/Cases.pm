# The ways in which a provider can fail, one refund each and all of them at the same time: by which
# calls each gets to its end, what the gateway saw of that, and what a person is told.
package Payonce::Cases;

use strict;
use warnings;

use Test::More;

# new(SERVER, GATEWAY, PREFIX, NAME => [CALLS, END, RULE...], ...): CALLS as TestServer's calls(), END
# is 300, or a pattern of what payonce_attention says of the refund. A rule without `on` is about the
# refund, and each applies once unless it says otherwise.
sub new
{
	my ($class, $server, $gateway, $prefix, %cases) = @_;
	return bless { server => $server, gateway => $gateway, prefix => $prefix, cases => \%cases },
	  $class;
}

sub names { my ($self) = @_; return sort keys %{ $self->{cases} }; }
sub refund_no { my ($self, $name) = @_; return "$self->{prefix}$name-2-R1"; }

sub rules
{
	my ($self) = @_;
	my @rules;
	for my $name ($self->names)
	{
		my (undef, undef, @of_case) = @{ $self->{cases}{$name} };
		push @rules, map +{
			on => 'refund', count => 1, match => '^' . $self->refund_no($name) . '$', %$_
		}, @of_case;
	}
	return @rules;
}

# Queues all of the refunds; the gateway's other rules come after those of the cases.
sub begin
{
	my ($self, @other_rules) = @_;
	$self->{gateway}->faults($self->rules, @other_rules);
	$self->{server}->pay_twice($self->{gateway}, map { "$self->{prefix}$_" } $self->names);
	return;
}

# The refunds that end in 300, or in attention.
sub ending
{
	my ($self, $in_attention) = @_;
	my $cases = $self->{cases};
	return map { $self->refund_no($_) }
	  grep { ($cases->{$_}[1] eq '300') != !!$in_attention } $self->names;
}

# Waits for their ends, and looks at each.
sub finish
{
	my ($self) = @_;
	my $server = $self->{server};
	my $list = join ', ', map { "'" . $self->refund_no($_) . "'" } $self->names;
	$server->wait_for(
		"SELECT bool_and(status IN (300, 500)) FROM t_refund WHERE refund_no IN ($list)",
		'all of the cases are settled');
	for my $name ($self->names)
	{
		my ($calls, $end) = @{ $self->{cases}{$name} };
		my $refund_no = $self->refund_no($name);
		is($server->calls($refund_no), $calls, "$refund_no: its calls");
		is(join(' ', map { $_->{kind} } $self->{gateway}->requests($refund_no)),
			join(' ', map { /^(\w+)/ } grep { !/not_sent$/ } split /, /, $calls),
			"$refund_no: the gateway saw no other");
		my $why = $server->sql(
			"SELECT why FROM payonce_attention WHERE id IN ('$refund_no', '$self->{prefix}$name-2')"
			  . " ORDER BY kind = 'refund' DESC LIMIT 1");
		$end eq '300'
		  ? is($why, '', "$refund_no: nobody is needed")
		  : like($why, $end, "$refund_no: a person is told why");
	}
	return;
}

# asks_late_ok(SERVER, SECONDS): whatever was sent and is not known to have succeeded is asked about,
# but not before the gateway has an answer to that.
sub asks_late_ok
{
	my ($server, $seconds) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($server->sql(<<"SQL"), '', "nothing is asked about within $seconds s of its sending");
SELECT refund_no, attempt, started_at - before.at
FROM (SELECT *, lag(call || ' ' || verdict) OVER w AS verdict_before, lag(started_at) OVER w AS at
	FROM t_refund_attempt WINDOW w AS (PARTITION BY refund_no ORDER BY attempt)) before
WHERE call = 'query' AND verdict_before IN ('refund unknown', 'refund rejected', 'refund lost')
  AND started_at < before.at + interval '$seconds s'
SQL
	# The row is written with the answer: the latest attempt of a refund that is not settled may still
	# be in flight.
	is($server->sql(<<'SQL'), '', 'each attempt has one row, without gaps');
SELECT refund_no FROM t_refund_attempt JOIN t_refund USING (refund_no)
GROUP BY refund_no, attempts, status
HAVING array_agg(attempt ORDER BY attempt) <> ARRAY(SELECT generate_series(1, attempts))
   AND (status IN (300, 500)
     OR array_agg(attempt ORDER BY attempt) <> ARRAY(SELECT generate_series(1, attempts - 1)))
SQL
	return;
}

1;
