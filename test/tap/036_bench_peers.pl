# What scripts/bench compares pay_callback with decides the same: in each of many stories, and when many
# clients pay the same orders at once.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use IPC::Run ();
use Test::More;

use Payonce::TestServer;

my $server = Payonce::TestServer->new('main', settings => { 'payonce.dispatch' => 'off' });
my $node = $server->node;
local $ENV{PGHOST} = $node->host;
local $ENV{PGPORT} = $node->port;
local $ENV{PGDATABASE} = 'shop';
IPC::Run::run(
	[ 'python3', '-B', "$FindBin::RealBin/../../bench/callback_equality.py" ],
	'<', \undef, '>', \my $said, '2>', \my $complaints);
my $status = $?;
like($said, qr/^ok \d+ - application: a duplicate$/m, 'the stories were told') or diag($complaints);
unlike($said, qr/^not ok/m, 'nothing differs') or diag($said);
is($status, 0, 'and it says so');
done_testing();
