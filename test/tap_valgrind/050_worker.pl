# A worker's life under memcheck: refunds through three protocols, with answers that are lost, broken
# and refused, gateways that change, an end in order with requests in flight, a successor that asks
# for their outcome, and the end of the extension. What memcheck found is judged by the suite.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../tap/lib";
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

my %refunds = (bank => 150, wechat => 25, alipay => 25);
my $changes = 20;
my $in_flight = 5;
my @ways_to_fail = (
	(map { { fault => $_, probability => 0.05 } }
		qw(500_before 500_after drop_before drop_after truncated garbage)),
	{ fault => '429', probability => 0.05, retry_after_s => 1 });

# What the processor does takes many times as long here.
my $server = Payonce::TestServer->new('main',
	settings => { 'payonce.request_timeout' => '120s', 'payonce.lease' => '1h' });
my $bank = Payonce::Gateway->new('bank');
my $wechat = Payonce::Gateway->new('wechat', protocol => 'wechat');
my $alipay = Payonce::Gateway->new('alipay', protocol => 'alipay');
my @gateways = ($bank, $wechat, $alipay);
$server->add_gateway($_, timeout => '100s', max_in_flight => 10) for @gateways;
$server->wait_for_worker;
$bank->faults(@ways_to_fail);
$_->faults(
	{ fault => 'drop_after', probability => 0.1 },
	{ fault => 'bad_signature', probability => 0.1 })
  for $wechat, $alipay;

my @refund_nos;
for my $gateway (@gateways)
{
	my $name = $gateway->name;
	push @refund_nos, $server->pay_twice($gateway, map { "$name-$_" } 1 .. $refunds{$name});
}
$server->wait_refunded(@refund_nos);
pass(scalar @refund_nos . ' refunds, with every kind of answer');

$_->faults() for @gateways;
$server->wake_and_wait("ALTER SERVER bank OPTIONS (SET max_in_flight '" . (10 + $_ % 2) . "')")
  for 1 .. $changes;
$server->wait_refunded($server->pay_twice($bank, 'changed'));
pass("$changes changes of a gateway");

my @hanging = $server->pay_twice_hanging($bank, map { "hanging$_" } 1 .. $in_flight);
my $worker = $server->worker_pid;
$bank->faults();
$server->sql("SELECT pg_terminate_backend($worker)");
$server->wait_for_worker($worker);
$server->wait_refunded(@hanging);
pass('an end in order with requests in flight, and a successor');

$server->judge_ok(@gateways);
$server->sql('DROP EXTENSION payonce CASCADE');
$server->wait_for("SELECT NOT EXISTS (SELECT FROM pg_stat_activity"
	. " WHERE backend_type = 'payonce worker')", 'the worker ends with its extension');
# In order: every process ends by itself, and memcheck looks at what it leaves.
$server->node->stop('fast');
done_testing();
