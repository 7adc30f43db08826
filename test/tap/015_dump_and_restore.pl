# A dump carries everything; a restored copy holds the same books, sends nothing until it is made the
# one that sends, and then goes on with the same numbers.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

my @tables = qw(t_order t_order_pay t_refund t_refund_attempt t_stray_notification);
# The original and its copies send under the same numbers: only a gateway that remembers them can
# tell that this is one refund.
my $wechat = Payonce::Gateway->new('wechat', forgets => 0);
my %settings = ('payonce.request_timeout' => '600s');
my $source = Payonce::TestServer->new('main', settings => \%settings);
my $other = Payonce::TestServer->new('other', settings => \%settings, database => 'spare');
my $directory = PostgreSQL::Test::Utils::tempdir();

# --- Something of everything, then silence

$source->add_gateway($wechat);
my @finished = $source->pay_twice($wechat, map { "finished$_" } 1 .. 300);
$source->wait_refunded(@finished);
$wechat->faults({ fault => 'failed', match => '^(dead|by_hand)' });
my @failed = $source->pay_twice($wechat, 'dead', 'by_hand');
$source->wait_status(500, @failed);
$source->sql("SELECT refund_resolve('by_hand-2-R1', false, 'kept by agreement')");
$source->add_orders(
	{ id => 'closed', payments => [ [ 'closed-1', $wechat ] ] },
	{ id => 'open', payments => [ [ 'open-1', $wechat ] ] });
$source->sql("SELECT order_close('closed')");
$source->sql("INSERT INTO t_stray_notification (gateway, body) VALUES ('wechat', E'money\\tof ¥')");
$wechat->mode({ mode => 'processing' });
my ($processing) = $source->pay_twice($wechat, 'processing');
$source->wait_status(200, $processing);
$wechat->faults({ fault => 'hang' });
my @sending = $source->pay_twice($wechat, 'sending1', 'sending2');
$source->wait_for("SELECT in_flight >= 2 FROM payonce_stat_worker", 'requests hang');
$source->sql("ALTER SERVER wechat OPTIONS (ADD paused 'true')");
my @queued = ($source->pay_twice($wechat, 'queued1', 'queued2'), 'closed-1-R1');
$source->callback('closed-1');
my @unsettled = ($processing, @sending, @queued);
is(
	$source->sql('SELECT string_agg(status::text, \' \' ORDER BY status)'
		  . ' FROM (SELECT DISTINCT status FROM t_refund) s'),
	'0 100 200 300 400 500', 'refunds in all the states in which they can rest');

sub content_of
{
	my ($server) = @_;
	my $digest = q(md5(string_agg(t::text, E'\n' ORDER BY t::text COLLATE "C")));
	return join "\n", map { "$_ " . $server->sql("SELECT count(*), $digest FROM $_ t") } @tables;
}
my $content = content_of($source);
my $requests = $wechat->summary->{requests};

# --- Copies

sub copy_ok
{
	my ($copy, $how) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$copy->wait_for_worker;
	# Unpaused: what holds the refunds is that this is a copy.
	$copy->wake_and_wait("ALTER SERVER wechat OPTIONS (SET paused 'false')");
	is(content_of($copy), $content, "$how: all rows of all tables are there");
	is($copy->sql('SELECT * FROM payonce_check()'), '', "$how: payonce_check() finds nothing");
	is($copy->sql('SELECT DISTINCT blocked_by FROM payonce_refund_backlog'),
		'this database is a copy: see payonce_activate()', "$how: the backlog says that it is a copy");
	is($wechat->summary->{requests}, $requests, "$how: it sends nothing");
	return;
}

sub dump_to
{
	my ($file, $database, @options) = @_;
	$source->node->command_ok([ 'pg_dump', '--file', "$directory/$file", @options, $database ],
		"pg_dump @options $database");
	return "$directory/$file";
}

my $node = $source->node;
my $plain = $source->in_database('plain_copy');
my $script = dump_to('plain.sql', 'shop');
$node->safe_psql('postgres', 'CREATE DATABASE plain_copy');
$node->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', $script, '-d', 'plain_copy' ],
	'psql');
copy_ok($plain, 'pg_dump and psql, same cluster');

# pg_restore with several jobs loads the largest tables first, whatever refers to what: it says so,
# and the rows have to be loaded by one.
my $parallel = $other->in_database('parallel_copy');
my $archive = dump_to('custom.dump', 'shop', '-Fc');
$other->node->safe_psql('postgres', 'CREATE DATABASE parallel_copy');
$other->node->command_fails_like([ 'pg_restore', '-j2', '-d', 'parallel_copy', $archive ],
	qr/violates foreign key constraint/, 'pg_restore -j2 of the rows');
is($wechat->summary->{requests}, $requests, 'a half-restored copy sends nothing');
$other->node->safe_psql('postgres', "DROP DATABASE parallel_copy;\nCREATE DATABASE parallel_copy");
for my $section ([ 'pre-data', '-j2' ], ['data'], [ 'post-data', '-j2' ])
{
	my ($name, @jobs) = @$section;
	$other->node->command_ok(
		[ 'pg_restore', @jobs, "--section=$name", '-d', 'parallel_copy', $archive ],
		"pg_restore --section=$name @jobs");
}
copy_ok($parallel, 'pg_dump -Fc and pg_restore by sections, another cluster');

my $data = $other->in_database('data_copy');
my $rows = dump_to('data.sql', 'shop', '--data-only');
$data->create_database;
$data->add_gateway($wechat, paused => 'true');
$other->node->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', $rows, '-d', 'data_copy' ],
	'psql');
copy_ok($data, 'pg_dump --data-only');

# --- The original

sub times_sent
{
	my ($refund_no) = @_;
	return scalar grep { $_->{method} eq 'POST' } $wechat->requests($refund_no);
}

$wechat->mode({ mode => 'immediate' });
$wechat->restart;
$wechat->settle($processing, 'succeeded');
$source->sql("ALTER SERVER wechat OPTIONS (SET paused 'false')");
$source->wait_refunded(@unsettled);
$source->judge_ok($wechat);
is(times_sent($queued[0]), 1, 'until then only the original has sent');

# --- A copy that is made the one that sends

my $retried = 'dead-2-R2';
my $turn = 0;
for my $copy ($plain, $parallel, $data)
{
	$copy->sql('SELECT payonce_activate()');
	$copy->wait_refunded(@unsettled);
	is(times_sent($queued[0]), ++$turn + 1,
		$copy->database . ': activated, it sends under the same number');
	like($copy->calls($sending[0]), qr/^refund lost, query succeeded$/,
		$copy->database . ': it asks about what may have been sent');
	is($copy->sql("SELECT refund_retry('dead-2-R1')"), $retried,
		$copy->database . ': a dead number is not handed out again');
	isnt($copy->sql("BEGIN;\nSELECT refund_request('finished1-1', 1, 'again');\nROLLBACK"), $retried,
		$copy->database . ': nor is one that is in use');
	$wechat->faults();
	$copy->wait_refunded($retried);
	$copy->judge_ok($wechat);
}

# A copy that was made the one that sends has copies like any other.
$script = dump_to('again.sql', 'plain_copy');
$node->safe_psql('postgres', 'CREATE DATABASE again');
$node->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', $script, '-d', 'again' ], 'psql');
my $again = $source->in_database('again');
is($again->sql('SELECT payonce_dispatch_blocked_by() LIKE \'%copy%\''), 't', 'the copy of a copy is a copy');
done_testing();
