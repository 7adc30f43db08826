# What a process has taken from the C library's heap, to the byte: a small library, preloaded into a
# server's processes, writes it down when a process gets SIGWINCH, which nobody else uses there.
package Payonce::HeapTeller;

use strict;
use warnings;

use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Utils;

# A process that waits for work holds no lock of the heap, so the handler may take them.
my $source = <<'C';
#define _GNU_SOURCE
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void tell(int signal_number)
{
	struct mallinfo2 heap = mallinfo2();
	char name[512], unfinished[520], text[32];
	int bytes = snprintf(text, sizeof text, "%zu", heap.uordblks + heap.hblkhd);
	int file;
	(void) signal_number;
	snprintf(name, sizeof name, "%s/%d", getenv("HEAP_TELLER_FOLDER"), (int) getpid());
	snprintf(unfinished, sizeof unfinished, "%s.new", name);
	file = open(unfinished, O_CREAT | O_WRONLY | O_TRUNC, 0600);
	if (file < 0 || write(file, text, bytes) != bytes || close(file) != 0
		|| rename(unfinished, name) != 0)
		abort();
}

__attribute__((constructor)) static void begin(void)
{
	struct sigaction action = {0};
	action.sa_handler = tell;
	action.sa_flags = SA_RESTART;
	sigaction(SIGWINCH, &action, NULL);
}
C

# new(): for the servers that are started from here on.
sub new
{
	my ($class) = @_;
	my $folder = PostgreSQL::Test::Utils::tempdir('heap');
	my $library = "$folder/teller.so";
	append_to_file("$folder/teller.c", $source);
	system('cc', '-shared', '-fPIC', '-Wall', '-Werror', '-o', $library, "$folder/teller.c") == 0
	  or die 'the library that tells of the heap does not compile';
	return bless { folder => $folder, library => $library }, $class;
}

# Runs code that starts a server, whose processes then tell.
sub while_preloaded
{
	my ($self, $code) = @_;
	local $ENV{HEAP_TELLER_FOLDER} = $self->{folder};
	local $ENV{LD_PRELOAD} = join ' ', grep { defined } $ENV{LD_PRELOAD}, $self->{library};
	return $code->();
}

# Of a process that waits for work.
sub bytes_in_use
{
	my ($self, $pid) = @_;
	my $file = "$self->{folder}/$pid";
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	unlink $file;
	kill 'WINCH', $pid or die "kill $pid: $!";
	until (-e $file)
	{
		die "process $pid does not tell of its heap" if time > $deadline;
		sleep 0.01;
	}
	return slurp_file($file);
}

1;
