# Requests that prove who sends them, connections that prove who answers, and secrets that payonce
# shows nowhere.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use MIME::Base64 qw(encode_base64);
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

my $directory = PostgreSQL::Test::Utils::tempdir();
my $token = 'token-Zq81vJw0-of-the-tests';
my $secret = 'whsec_' . encode_base64('0123456789-secret-of-the-tests', '');
my $wrong_token = 'token-Xy77bKp3-of-nobody';
my $wrong_secret = 'whsec_' . encode_base64('9876543210-secret-of-nobody', '');
my @secrets = ($token, $secret, $wrong_token, $wrong_secret);

my $server = Payonce::TestServer->new(
	'main',
	settings => {
		# What is logged then is what payonce writes, and that in full.
		log_statement => 'none',
		log_min_messages => 'debug2',
	});
$server->wait_for_worker;

sub map_user
{
	my ($server_name, %options) = @_;
	my $list = join ', ', map { "$_ '$options{$_}'" } sort keys %options;
	$server->sql("DROP USER MAPPING IF EXISTS FOR CURRENT_USER SERVER $server_name");
	$server->sql("CREATE USER MAPPING FOR CURRENT_USER SERVER $server_name OPTIONS ($list)");
	return;
}

sub write_file
{
	my ($name, $content) = @_;
	unlink "$directory/$name";
	append_to_file("$directory/$name", $content);
	return "$directory/$name";
}

# --- A gateway that wants a token and signatures

my $strict = Payonce::Gateway->new('strict',
	options => [ '--bearer-token', $token, '--signing-secret', $secret ],
	provokes => [ 'bearer_failures', 'signature_failures' ]);
$server->add_gateway($strict);
map_user('strict', bearer_token => $token, signing_secret => $secret);
# The answer is dropped, so that a query has to be signed too.
$strict->faults({ fault => 'drop_after', on => 'refund', match => '^asked' });
my ($signed) = $server->pay_twice($strict, 'signed');
my ($asked) = $server->pay_twice($strict, 'asked');
$server->wait_refunded($signed, $asked);
is($server->calls($signed), 'refund succeeded', 'a request with token and signature is accepted');
is($server->calls($asked), 'refund unknown, query succeeded', 'a query is signed as well');
my ($post) = $strict->requests($signed);
my $headers = $post->{headers};
is($headers->{'webhook-id'}, $signed, 'the refund is the message that is signed');
is($headers->{authorization}, "Bearer $token", 'the token is sent as a bearer token');

# --- Wrong ones, and none

my %wrong = (
	'wrong-token' => { bearer_token => $wrong_token, signing_secret => $secret },
	'no-token' => { signing_secret => $secret },
	'wrong-secret' => { bearer_token => $token, signing_secret => $wrong_secret },
	'no-secret' => { bearer_token => $token },
);
for my $case (sort keys %wrong)
{
	map_user('strict', %{ $wrong{$case} });
	my ($refund_no) = $server->pay_twice($strict, $case);
	$server->wait_status(500, $refund_no);
	is($server->calls($refund_no), 'refund rejected', "$case: the gateway rejects it");
	like($server->sql("SELECT why FROM payonce_attention WHERE id = '$refund_no'"),
		qr/HTTP 401/, "$case: a person is told why");
}
is($strict->summary->{bearer_failures}, 2, 'the gateway missed the right token twice');
is($strict->summary->{signature_failures}, 2, 'and the right signature');
map_user('strict', bearer_token => $token, signing_secret => $secret);
$server->sql("SELECT refund_retry('$_-2-R1')") for sort keys %wrong;
$server->wait_refunded(map { "$_-2-R1" } keys %wrong);
pass('with the right ones they are all accepted');

# --- Secrets in files

# As editors write it, with the end of its line.
my $token_file = write_file('token', "$token\n");
my $secret_file = write_file('secret', "$secret\n");
map_user('strict', bearer_token_file => $token_file, signing_secret_file => $secret_file);
my ($from_file) = $server->pay_twice($strict, 'from-file');
$server->wait_refunded($from_file);
is($server->calls($from_file), 'refund succeeded', 'secrets are read from files');

unlink $token_file;
$server->while_worker_looks_round(sub { $server->node->reload });
my ($no_file) = $server->pay_twice($strict, 'no-file');
like($server->sql("SELECT blocked_by FROM payonce_refund_backlog WHERE refund_no = '$no_file'"),
	qr/\Q$token_file\E.*No such file/, 'a file that is missing is named where its refunds wait');
write_file('token', $token);
$server->node->reload;
$server->wait_refunded($no_file);
is($server->calls($no_file), 'refund succeeded', 'nothing is sent until it is there again');

# --- A gateway that quotes the request in its error

# Some so long that they are cut off, wherever that is, in the middle of the token.
my @lengths = (0, map { 10 * $_ } 15 .. 60);
my %echo = (fault => '4xx', status => 403, count => 1);
$strict->faults(
	map +{ %echo, match => "^echo$_-", error => 'said: ' . 'x' x $_ . $token }, @lengths);
my @echoes = $server->pay_twice($strict, map { "echo$_" } @lengths);
$server->wait_status(500, @echoes);
is($server->sql("SELECT count(*) FROM t_refund WHERE last_error LIKE 'HTTP 403: said:%'"),
	scalar @echoes, 'the words of the gateway are kept');
$server->sql(join ';', map { "SELECT refund_retry('$_')" } @echoes);
$server->wait_refunded(@echoes);

# --- TLS

sub openssl
{
	my @arguments = @_;
	PostgreSQL::Test::Utils::system_or_bail('openssl', @arguments);
	return;
}

my @new_key = ('-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2');

sub make_authority
{
	my ($name) = @_;
	my ($key, $certificate) = ("$directory/$name.key", "$directory/$name.pem");
	openssl('req', '-x509', @new_key, '-subj', "/CN=$name", '-keyout', $key, '-out', $certificate,
		'-addext', 'basicConstraints=critical,CA:TRUE');
	return { key => $key, certificate => $certificate };
}

# The options with which a gateway shows a certificate of this authority.
sub make_certificate
{
	my ($name, $authority, $alternative_name) = @_;
	my ($key, $request, $certificate) = map { "$directory/$name.$_" } 'key', 'csr', 'pem';
	openssl('req', '-new', @new_key, '-subj', "/CN=$name", '-keyout', $key, '-out', $request);
	my $extensions = write_file("$name.ext", "subjectAltName=$alternative_name\n");
	openssl('x509', '-req', '-in', $request, '-CA', $authority->{certificate},
		'-CAkey', $authority->{key}, '-CAcreateserial', '-days', '2', '-extfile', $extensions,
		'-out', $certificate);
	return ('--tls-cert', $certificate, '--tls-key', $key);
}

my $authority = make_authority('ours');
my $stranger = make_authority('strangers');
my @good = make_certificate('gateway', $authority, 'IP:127.0.0.1,DNS:localhost');
my @other_host = make_certificate('elsewhere', $authority, 'DNS:elsewhere.example');
my @untrusted = make_certificate('untrusted', $stranger, 'IP:127.0.0.1');

my $vault = Payonce::Gateway->new('vault', options => [ '--bearer-token', $token ]);
my @callbacks = $server->add_double_payments($vault, 'tls', 'tls-untrusted', 'tls-other-host',
	'tls-none', 'tls-system');
# The gateway without TLS takes the beginning of a handshake for half a request, and waits.
$server->add_gateway($vault, url => $vault->url =~ s/^http:/https:/r, timeout => '2s',
	ca_file => $authority->{certificate});
map_user('vault', bearer_token => $token);

# Sends a refund to a gateway that cannot prove who it is; then to the right one.
sub refuses_ok
{
	my ($what, $refund_no, $callback) = @_;
	$server->sql($callback);
	$server->wait_for("SELECT attempts >= 2 FROM t_refund WHERE refund_no = '$refund_no'",
		"$what was tried");
	$vault->restart(@good);
	$server->sql("ALTER SERVER vault OPTIONS (SET ca_file '$authority->{certificate}')");
	$server->wait_refunded($refund_no);
	like($server->calls($refund_no), qr/^(?:refund not_sent, )+refund succeeded$/,
		"$what: nothing is sent, and tried again");
	return;
}

$vault->restart(@good);
$server->sql($callbacks[0]);
$server->wait_refunded('tls-2-R1');
is($server->calls('tls-2-R1'), 'refund succeeded', 'a certificate of ca_file is trusted');

$vault->restart(@untrusted);
refuses_ok('a certificate of another authority', 'tls-untrusted-2-R1', $callbacks[1]);
$vault->restart(@other_host);
refuses_ok('a certificate for another host', 'tls-other-host-2-R1', $callbacks[2]);
$vault->restart;
refuses_ok('a gateway without TLS', 'tls-none-2-R1', $callbacks[3]);
$server->sql("ALTER SERVER vault OPTIONS (DROP ca_file)");
$server->sql($callbacks[4]);
$server->wait_for("SELECT attempts >= 2 FROM t_refund WHERE refund_no = 'tls-system-2-R1'",
	'it was tried with the authorities of the system');
$server->sql("ALTER SERVER vault OPTIONS (ADD ca_file '$authority->{certificate}')");
$server->wait_refunded('tls-system-2-R1');
like($server->calls('tls-system-2-R1'), qr/^(?:refund not_sent, )+refund succeeded$/,
	'without ca_file the authorities of the system are trusted, and no other');
is($vault->summary->{requests}, 5, 'the gateway was sent each refund once, whoever posed as it');

# --- Nowhere to be seen

my $refused = $server->sql_error(
	"ALTER USER MAPPING FOR CURRENT_USER SERVER strict OPTIONS (ADD bearer_token '$wrong_token')");
like($refused, qr/HV/, 'a token beside a file with it is refused');
$refused .= $server->sql_error(
	"CREATE USER MAPPING FOR PUBLIC SERVER strict OPTIONS (signing_secret '$wrong_secret!')");
like($refused, qr/signing_secret/, 'a malformed secret is refused');
# The server's own log has refused statements; what payonce said about them is what the client got.
my $log = slurp_file($server->node->logfile) =~ s/^.* STATEMENT:  .*$//gmr;
my $stored = $server->sql(<<'SQL');
SELECT format('SELECT t::text FROM %s t', c.oid::regclass)
FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
  AND d.deptype = 'e' AND c.relkind IN ('r', 'v')
UNION ALL SELECT 'SELECT a::text FROM pg_stat_activity a WHERE pid <> pg_backend_pid()'
\gexec
SQL
like($log, qr/worker started/, 'the log has what payonce writes');
like($stored, qr/signed-2-R1/, 'tables and views have been read');
# Nor the beginning of one.
for my $hidden (map { substr $_, 0, 13 } @secrets)
{
	my $where = join ', ',
	  map { $_->[0] } grep { index($_->[1], $hidden) >= 0 }
	  [ 'the log', $log ], [ 'tables and views', $stored ], [ 'an error', $refused ];
	is($where, '', "$hidden...: seen nowhere");
}

$server->judge_ok($strict, $vault);
done_testing();
