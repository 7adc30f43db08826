# A transaction that lasts for hours keeps the queue's index from forgetting what was settled. The
# worker then does not look through all of it for every claim; but what a slow transaction queues
# below the point from which it looks is found all the same, without a look round.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;

use Payonce::Gateway;
use Payonce::TestServer;

my $wechat = Payonce::Gateway->new('wechat');
my $server = Payonce::TestServer->new('main');
$server->add_gateway($wechat);
$server->wait_for_worker;

my $pin = $server->session;
$pin->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t_refund');

# What is left in the index by refunds that are gone.
my ($late) = $server->add_double_payments($wechat, 'late');
$server->sql(<<'SQL');
BEGIN;
SET LOCAL session_replication_role = replica;
INSERT INTO t_refund (refund_no, payment_id, amount, reason, gateway, window_from)
SELECT 'gone-' || n, 'late-1', 1, 'request', 'wechat', now() FROM generate_series(1, 20000) n;
DELETE FROM t_refund WHERE refund_no LIKE 'gone-%';
COMMIT;
SQL

my $session = $server->session;
is($session->query_safe("BEGIN; $late"), 'duplicate', 'a transaction queues a refund, and goes on');
my @refunds = map { $server->pay_twice($wechat, "meanwhile$_") } 1 .. 10;
$server->wait_refunded($_) for @refunds;
is($server->refund_status('late-2-R1'), '', 'meanwhile others are refunded, also such as were queued later');
$session->query_safe('COMMIT');
$server->wait_refunded('late-2-R1');
pass('the refund of the slow transaction is found');

# So is what nobody announced, a hand-written change of a refund that was put off.
$wechat->faults({ fault => '429', retry_after_s => 3600, match => '^off', count => 1 });
($late) = $server->pay_twice($wechat, 'off');
$server->wait_for("SELECT attempts = 1 AND lease_owner IS NULL FROM t_refund WHERE refund_no = '$late'",
	'a refund is told to wait');
$server->sql("UPDATE t_refund SET next_attempt_at = now() - interval '1 hour' WHERE refund_no = '$late'");
$server->wait_refunded($late);
pass('a refund whose time was set back is found');

$pin->query_safe('COMMIT');
$_->quit for $session, $pin;
$server->judge_ok($wechat);
done_testing();
