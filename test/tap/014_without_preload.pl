# Without shared_preload_libraries everything works but dispatch, and payonce says so; with it, what
# was queued meanwhile is sent.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

my $wechat = Payonce::Gateway->new('wechat');
my $server = Payonce::TestServer->new('main', preload => 0);
my $node = $server->node;
my $reason = 'payonce is not in shared_preload_libraries';

# What a statement that succeeds says on the side.
sub notices_of
{
	my ($database, $sql) = @_;
	my $stderr;
	$node->psql($database, $sql, stderr => \$stderr, on_error_die => 1);
	return $stderr;
}

# --- What is said

$node->safe_psql('postgres', 'CREATE DATABASE second');
my $notices = notices_of('second', 'CREATE EXTENSION payonce');
like($notices, qr/WARNING:  payonce is not preloaded: refunds are queued, but not sent/,
	'CREATE EXTENSION warns');
like($notices, qr/HINT:  Add payonce to shared_preload_libraries and restart the server\./,
	'and says what to do');
like(notices_of('second', 'SELECT payonce_activate()'), qr/WARNING:  payonce is not preloaded/,
	'so does payonce_activate()');
is($server->sql('SELECT pid, state, blocked_by FROM payonce_stat_worker'), "||$reason",
	'payonce_stat_worker has no worker, and says why');

# --- What works

$server->add_gateway($wechat);
like($server->sql_error("ALTER SERVER wechat OPTIONS (SET url 'ftp://127.0.0.1')"), qr/HV024/,
	'options are checked');
my @refund_nos = $server->pay_twice($wechat, map { "twice$_" } 1 .. 4);
$server->add_orders(
	{ id => 'closed', payments => [ [ 'closed-1', $wechat ] ] },
	{ id => 'partly', payments => [ [ 'partly-1', $wechat ] ] });
is($server->callback('twice1-2'), 'already_processed', 'a repeated callback is recognised');
is($server->sql("SELECT order_close('closed')"), 't', 'an order is closed');
is($server->callback('closed-1'), 'late', 'a late payment is decided');
is($server->callback('partly-1'), 'paid', 'a payment wins');
push @refund_nos, 'closed-1-R1', $server->sql("SELECT refund_request('partly-1', 200, 'broken')");
is($server->sql("SELECT refund_callback('twice4-2-R1', false)"), 't', 'a refund fails');
$server->sql("SELECT refund_resolve('twice4-2-R1', false, 'by hand')");
is($server->sql("SELECT payment_resolve('twice4-2', 'refund', 'again')"), 'twice4-2-R2',
	'a payment is resolved');
$refund_nos[3] = 'twice4-2-R2';
is($server->sql('SELECT * FROM payonce_check()'), '', 'payonce_check() finds nothing');

is($server->sql('SELECT DISTINCT blocked_by, status, count(*) FROM payonce_refund_backlog GROUP BY 1, 2'),
	"$reason|0|" . @refund_nos, 'the backlog says why all refunds wait');
is($wechat->summary->{requests}, 0, 'nothing is sent');
unlike(slurp_file($node->logfile), qr/payonce: worker started/, 'no worker is started');

# --- With it

$server->write_settings(shared_preload_libraries => 'payonce');
$node->restart;
$server->wait_refunded(@refund_nos);
is(join(' ', map { $wechat->methods($_) } @refund_nos), join(' ', ('POST') x @refund_nos),
	'preloaded, what was queued is sent, each once');
is(notices_of('second', 'SELECT payonce_activate()'), '', 'and nothing is left to warn of');

$server->write_settings(shared_preload_libraries => '');
$node->restart;
my ($later) = $server->pay_twice($wechat, 'later');
is($server->sql('SELECT blocked_by FROM payonce_refund_backlog'), $reason, 'without it again, it waits');
$server->write_settings(shared_preload_libraries => 'payonce');
$node->restart;
$server->wait_refunded($later);
pass('with it again, it is sent');
$server->judge_ok($wechat);
done_testing();
