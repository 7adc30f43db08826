# Logical decoding sees what a callback writes as it sees any statement's rows: each of them, with the
# columns that were not changed, values kept out of line left out, and in the order of the writes.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;

use Payonce::TestServer;

my $server = Payonce::TestServer->new(
	'main', settings => { wal_level => 'logical', 'payonce.dispatch' => 'off' });
$server->sql(<<'SQL');
INSERT INTO t_order (id, price) VALUES ('o', 100);
INSERT INTO t_order_pay (id, order_id, price, gateway, attention)
VALUES ('p', 'o', 100, 'g', NULL),
       ('d', 'o', 100, 'g', (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 500) n));
SELECT pg_create_logical_replication_slot('watch', 'test_decoding');
SQL

# What was decoded since: table, kind, and the columns that are of interest.
sub decoded {
	my @changes = split /\n/, $server->sql(<<'SQL');
SELECT data FROM pg_logical_slot_get_changes('watch', NULL, NULL, 'include-xids', '0', 'skip-empty-xacts', '1')
SQL
	return map {
		my $change = $_;
		/^table public\.(\w+): (\w+):/
		  ? join ' ', $1, $2, map { $change =~ / \Q$_\E\[[^]]*\]:('[^']*'|\S+)/ ? "$_=$1" : () }
		  qw(id refund_no status paid_by refund_reserved attention)
		  : $_;
	} @changes;
}

$server->sql(q{SELECT pay_callback('p', true)});
is_deeply(
	[ decoded() ],
	[
		'BEGIN',
		"t_order UPDATE id='o' status=100 paid_by='p'",
		"t_order_pay UPDATE id='p' status=100 refund_reserved=0 attention=null",
		'COMMIT'
	],
	'a winner');

$server->sql(q{SELECT pay_callback('d', true)});
my @duplicate = decoded();
is( scalar(grep { /^t_order_pay UPDATE id='d' status=200 refund_reserved=0 / } @duplicate), 1,
	'a duplicate: its payment');
is($duplicate[2], "t_refund INSERT refund_no='d-R1' status=0", 'its refund');
is($duplicate[3], "t_order_pay UPDATE id='d' status=200 refund_reserved=100 attention=unchanged-toast-datum",
	'and its sum, in which the long attention was not touched');

# A table that publishes updates needs an identity, as for any UPDATE.
$server->sql('ALTER TABLE t_order REPLICA IDENTITY NOTHING; CREATE PUBLICATION all_orders FOR TABLE t_order');
$server->sql(q{INSERT INTO t_order (id, price) VALUES ('o2', 100);
	INSERT INTO t_order_pay (id, order_id, price) VALUES ('p2', 'o2', 100)});
like($server->sql_error(q{SELECT pay_callback('p2', true)}),
	qr/does not have a replica identity and publishes updates/, 'without one it is refused');
is($server->sql(q{SELECT status FROM t_order_pay WHERE id = 'p2'}), '0', 'and nothing is recorded');
is($server->sql('SELECT count(*) FROM payonce_check()'), '0', 'every invariant is in place');
done_testing();
