# The fault points of a build for tests (src/pg/fault_point.h): to ask for a fault, to see that it
# happened, and to let go what was stopped there.
package Payonce::Faults;

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Utils;

# new(SERVER): in this object's database.
sub new
{
	my ($class, $server) = @_;
	my $oid = $server->sql('SELECT oid FROM pg_database WHERE datname = current_database()');
	my $folder = $server->node->data_dir . '/payonce_faults';
	mkdir $_ for $folder, "$folder/$oid";
	return bless { server => $server, folder => "$folder/$oid" }, $class;
}

# All that there are, as the library names them.
sub points
{
	my ($server, $kind) = @_;
	return split ' ', $server->sql('SHOW payonce.test_' . ($kind // 'fault') . '_points');
}

# arm(POINT, ACTION): whoever comes by next does it, once.
sub arm
{
	my ($self, $point, $action) = @_;
	my $file = "$self->{folder}/$point";
	unlink "$file.hit", "$file.new";
	# In one step: nobody must read half of it.
	append_to_file("$file.new", $action);
	rename "$file.new", $file or die "rename: $!";
	return;
}

sub is_hit { my ($self, $point) = @_; return -e "$self->{folder}/$point.hit"; }

sub wait_hit
{
	my ($self, $point) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	until ($self->is_hit($point))
	{
		if (time > $deadline)
		{
			diag $self->{server}->situation;
			die "fault point $point was not reached";
		}
		sleep 0.01;
	}
	return;
}

# What was stopped there goes on.
sub let_go
{
	my ($self, $point) = @_;
	unlink "$self->{folder}/$point.hit" or die "$point: $!";
	return;
}

# True if it was armed, and nobody came by.
sub disarm
{
	my ($self, $point) = @_;
	return unlink "$self->{folder}/$point";
}

1;
