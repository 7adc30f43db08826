# The keys of WeChat Pay, Alipay and Stripe: in every form in which they are given, changed while
# everything runs, wrong in every way, and never shown.
use strict;
use warnings;

use Cwd qw(abs_path);
use FindBin;
use JSON::PP ();
use lib "$FindBin::RealBin/lib";
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

my $vectors = abs_path("$FindBin::RealBin/../vectors");
my $directory = PostgreSQL::Test::Utils::tempdir();
my $json = JSON::PP->new->utf8;

sub vector { return slurp_file("$vectors/$_[0]"); }
# As one line of base64, in which Alipay's tools give keys.
sub bare { return join '', grep { !/^-----/ } split /\s+/, $_[0] =~ s/^-----.*$//gmr; }

my $server = Payonce::TestServer->new(
	'main',
	settings => {
		# What is logged then is what payonce writes, and that in full.
		log_statement => 'none',
		log_min_messages => 'debug2',
	});
my %gateways = map {
	my ($name, $failures) = @$_;
	$name => Payonce::Gateway->new($name, protocol => $name, provokes => [$failures])
} ([ 'wechat', 'signature_failures' ], [ 'alipay', 'signature_failures' ],
	[ 'stripe', 'bearer_failures' ]);
my @names = sort keys %gateways;
$server->add_gateway($gateways{$_}, rate_limit => 1000) for @names;
$server->wait_for_worker;

# --- What must not be seen anywhere

my %private_key = (
	wechat => {
		'PKCS#1' => vector('wechat/merchant_private_key_pkcs1.pem'),
		'PKCS#8' => vector('wechat/merchant_private_key_pkcs8.pem'),
		'bare base64' => bare(vector('wechat/merchant_private_key_pkcs8.pem')),
	},
	alipay => {
		'PKCS#1' => vector('alipay/app_private_key_pkcs1.pem'),
		'PKCS#8' => vector('alipay/app_private_key_pkcs8.pem'),
		'bare PKCS#1' => vector('alipay/app_private_key_pkcs1_bare.txt'),
		'bare PKCS#8' => vector('alipay/app_private_key_pkcs8_bare.txt'),
	});
my %stranger_key = map { $_ => vector("$_/stranger_private_key.pem") } 'wechat', 'alipay';
my $wrong_api_v3_key = 'NobodysApiV3Key0123456789abcdef0';
my $wrong_secret_key = 'sk_test_of_nobody_at_all';
my $wrong_webhook_secret = 'whsec_of_nobody_at_all_0123456789';
my $garbage = 'Zq81vJw0-garbage-in-a-file';

my %keys = map { $_ => { Payonce::TestServer::keys_of($_) } } @names;
my @hidden = map { substr $_, 0, 12 } (
	$keys{wechat}{api_v3_key}, $wrong_api_v3_key,
	$keys{stripe}{secret_key} =~ s/^sk_test_//r, $wrong_secret_key =~ s/^sk_test_//r,
	$keys{stripe}{webhook_secret} =~ s/^whsec_//r, $wrong_webhook_secret =~ s/^whsec_//r,
	$garbage);
push @hidden, '-----BEGIN';
# Of each line of a key the beginning; and of what is one line, pieces.
for my $key (values %stranger_key, map { values %$_ } values %private_key)
{
	push @hidden, map { substr $_, 0, 24 } grep { length >= 24 } bare($key) =~ /(.{1,64})/g;
}

# hidden_ok(WHERE, TEXT): one test.
sub hidden_ok
{
	my ($where, $text) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(join(', ', grep { index($text, $_) >= 0 } @hidden), '', "$where: shows no secret");
	return;
}

# --- Each form of a key

my $count = 0;

# One refund through the gateway, under the mapping as it is.
sub refund
{
	my ($name, $what) = @_;
	my ($refund_no) = $server->pay_twice($gateways{$name}, $what . ++$count);
	return $refund_no;
}

sub refunds_ok
{
	my ($name, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $refund_no = refund($name, 'good');
	$server->wait_refunded($refund_no);
	unlike($server->calls($refund_no), qr/rejected|unknown/, "$name, $what: accepted");
	return;
}

sub write_file
{
	my ($name, $content) = @_;
	# In one step: the worker must not read half of it.
	unlink "$directory/$name.new";
	append_to_file("$directory/$name.new", $content);
	rename "$directory/$name.new", "$directory/$name" or die "rename: $!";
	return "$directory/$name";
}

# The options of a gateway with all that is in files inline.
sub inline
{
	my ($name, %other) = @_;
	my %options = %{ $keys{$name} };
	for my $option (grep { /_file$/ } keys %options)
	{
		$options{ $option =~ s/_file$//r } = slurp_file(delete $options{$option});
	}
	return (%options, %other);
}

for my $name ('wechat', 'alipay')
{
	for my $form (sort keys %{ $private_key{$name} })
	{
		my $key = $private_key{$name}{$form};
		$server->map_user($name, inline($name, private_key => $key));
		refunds_ok($name, "$form inline");
		$server->map_user($name, %{ $keys{$name} },
			private_key_file => write_file("$name.key", $key));
		refunds_ok($name, "$form in a file");
	}
}
$server->map_user('alipay', app_id => $keys{alipay}{app_id},
	private_key_file => "$vectors/alipay/app_private_key_pkcs8.pem",
	alipay_public_key => vector('alipay/alipay_public_key_bare.txt'));
refunds_ok('alipay', 'bare public key inline');
refunds_ok('stripe', 'inline');
$server->map_user('stripe',
	secret_key_file => write_file('stripe.key', "$keys{stripe}{secret_key}\n"),
	webhook_secret_file => write_file('stripe.webhook', "$keys{stripe}{webhook_secret}\r\n"));
refunds_ok('stripe', 'in files');
$server->map_user($_, %{ $keys{$_} }) for @names;

# --- What is refused when it is given: in a session that is then idle

my $psql = $server->node->background_psql($server->database, on_error_stop => 0);
$psql->query_safe('\set VERBOSITY verbose');
my $idle = $psql->query_safe('SELECT pg_backend_pid()');
my %certificates = map { ($_ => vector("alipay/$_.pem")) } qw(app_cert alipay_cert alipay_root_cert);
my @certificate_mode = (app_id => $keys{alipay}{app_id},
	private_key => $private_key{alipay}{'PKCS#8'}, alipay_public_key => undef);
my @bad = (
	[ 'wechat', 'private_key', private_key => "-----BEGIN PRIVATE KEY-----\n$garbage\n" ],
	[ 'wechat', 'private_key', private_key => vector('wechat/merchant_public_key.pem') ],
	[ 'wechat', 'private_key', private_key => substr($private_key{wechat}{'PKCS#1'}, 0, 900) ],
	[ 'wechat', 'public_key', public_key => $private_key{wechat}{'PKCS#8'} ],
	[ 'wechat', 'public_key', public_key => vector('wechat/merchant_public_key.pem') ],
	[ 'wechat', 'certificates', certificates => $private_key{wechat}{'PKCS#8'} ],
	[ 'wechat', 'certificates', certificates => vector('wechat/merchant_cert.pem') ],
	[ 'wechat', 'api_v3_key', api_v3_key => substr($keys{wechat}{api_v3_key}, 0, 31) ],
	[ 'wechat', 'api_v3_key', api_v3_key => $private_key{wechat}{'PKCS#8'} ],
	[ 'wechat', 'mchid', mchid => $private_key{wechat}{'bare base64'} ],
	[ 'wechat', 'serial_no', serial_no => $private_key{wechat}{'bare base64'} ],
	[ 'wechat', 'private_keys', private_keys => $private_key{wechat}{'PKCS#8'} ],
	[ 'alipay', 'private_key', private_key => $garbage ],
	[ 'alipay', 'private_key', private_key => vector('alipay/alipay_public_key_bare.txt') ],
	[ 'alipay', 'alipay_public_key', alipay_public_key => $private_key{alipay}{'bare PKCS#8'} ],
	[ 'alipay', 'alipay_public_key', alipay_public_key => vector('alipay/app_public_key.pem') ],
	[ 'alipay', 'app_id', app_id => $private_key{alipay}{'bare PKCS#1'} ],
	[ 'alipay', 'alipay_cert', @certificate_mode, %certificates,
		alipay_cert => vector('alipay/rogue_alipay_cert.pem') ],
	[ 'alipay', 'app_cert', @certificate_mode, %certificates,
		private_key => $stranger_key{alipay} ],
	[ 'alipay', 'alipay_root_cert', @certificate_mode, %certificates,
		alipay_root_cert => $private_key{alipay}{'PKCS#8'} ],
	[ 'stripe', 'secret_key', secret_key => $wrong_secret_key =~ s/^s/p/r ],
	[ 'stripe', 'secret_key', secret_key => $keys{stripe}{webhook_secret} ],
	[ 'stripe', 'secret_key', secret_key => "$wrong_secret_key\r\nX-Evil: 1" ],
	[ 'stripe', 'webhook_secret', webhook_secret => $keys{stripe}{secret_key} ],
	[ 'stripe', 'webhook_secret', webhook_secret => "$wrong_webhook_secret " x 3 ],
	[ 'stripe', 'secret_keys', secret_keys => $keys{stripe}{secret_key} ],
);

# The statement, which ends without a semicolon lest another follow it, is refused because of the
# option, and shown nowhere.
sub refused_ok
{
	my ($statement, $option, $what) = @_;
	$psql->{stderr} = '';
	$psql->query($statement);
	my $error = $psql->{stderr};
	$psql->{stderr} = '';
	like($error, qr/ERROR:  HV\w+: .*option "$option"/, "$what: refused");
	hidden_ok("$what: the error", $error);
	my $activity = $server->sql("SELECT state || ': ' || query FROM pg_stat_activity WHERE pid = $idle");
	like($activity, qr/^idle: /, "$what: the session is idle");
	hidden_ok("$what: its last query", $activity);
	return;
}

for my $case (@bad)
{
	my ($name, $option, %change) = @$case;
	my %options = (inline($name), %change);
	delete $options{$_} for grep { !defined $options{$_} } keys %options;
	refused_ok("CREATE USER MAPPING FOR PUBLIC SERVER $name OPTIONS ("
		  . Payonce::TestServer::option_list(%options) . ')',
		$option, "$name, $option");
}
for my $change ("ADD secret_key_file '/etc/payonce/key'", "SET secret_key 'pk_live_of_nobody_at_all'",
	"SET webhook_secret '$keys{stripe}{secret_key}'")
{
	my ($option) = $change =~ /(secret_key|webhook_secret)/;
	refused_ok("ALTER USER MAPPING FOR CURRENT_USER SERVER stripe OPTIONS ($change)", $option,
		"ALTER ... $option");
}
# A secret does not belong there, but that is where it was put.
for my $statement ('ALTER SERVER stripe OPTIONS (ADD',
	'CREATE SERVER misplaced FOREIGN DATA WRAPPER payonce_stripe OPTIONS (')
{
	refused_ok("$statement secret_key '$keys{stripe}{secret_key}')", 'secret_key', $statement);
}
# Also when all is well.
$psql->query_safe("ALTER USER MAPPING FOR CURRENT_USER SERVER stripe OPTIONS"
	. " (SET secret_key '$wrong_secret_key', SET webhook_secret '$wrong_webhook_secret')");
hidden_ok('the last query that was accepted',
	$server->sql("SELECT query FROM pg_stat_activity WHERE pid = $idle"));

# --- A change takes effect at once, in the worker and in sessions that are open

sub alter
{
	my ($name, $option, $value) = @_;
	$server->sql("ALTER USER MAPPING FOR CURRENT_USER SERVER $name OPTIONS (SET "
		. Payonce::TestServer::option_list($option => $value) . ')');
	return;
}

sub rejected
{
	my ($name, $what) = @_;
	my $refund_no = refund($name, 'wrong');
	$server->wait_status(500, $refund_no);
	like($server->calls($refund_no), qr/^refund rejected/, "$name, $what: rejected");
	return $refund_no;
}

sub retry_ok
{
	my ($what, $refund_no) = @_;
	$server->sql("SELECT refund_retry('$refund_no')");
	$server->wait_refunded($refund_no);
	pass("$what: with the right one it is accepted");
	return;
}

my $wrong = rejected('stripe', 'another key');
alter('stripe', secret_key => $keys{stripe}{secret_key});
retry_ok('stripe', $wrong);
$server->map_user('wechat', %{ $keys{wechat} },
	private_key_file => "$vectors/wechat/stranger_private_key.pem");
$wrong = rejected('wechat', 'another key');
alter('wechat', private_key_file => $keys{wechat}{private_key_file});
retry_ok('wechat', $wrong);
alter('alipay', private_key_file => "$vectors/alipay/stranger_private_key.pem");
$wrong = rejected('alipay', 'another key');
alter('alipay', private_key_file => $keys{alipay}{private_key_file});
retry_ok('alipay', $wrong);

# What pay_notify answers in the open session to a payment of a new order.
sub outcome
{
	my ($name) = @_;
	my $id = 'told' . ++$count;
	$server->add_orders({ id => $id, payments => [ [ $id, $gateways{$name} ] ] });
	my $made = $gateways{$name}->notify(
		{ kind => 'payment', payment_id => $id, deliver => JSON::PP::false });
	my ($headers, $body) = @{ $made->{notifications}[0] }{qw(headers body)};
	return $psql->query_safe("SELECT outcome FROM pay_notify('$name', "
		. '$h$' . $json->encode($headers) . '$h$, $b$' . $body . '$b$)');
}

is(outcome('stripe'), 'forged', 'stripe: pay_notify has the wrong secret');
alter('stripe', webhook_secret => $keys{stripe}{webhook_secret});
is(outcome('stripe'), 'paid', 'and in the same session the right one');
alter('stripe', webhook_secret => "$wrong_webhook_secret,$keys{stripe}{webhook_secret}");
is(outcome('stripe'), 'paid', 'or both');
alter('stripe', webhook_secret => $keys{stripe}{webhook_secret});
is(outcome('wechat'), 'paid', 'wechat: pay_notify has the right key');
alter('wechat', api_v3_key => $wrong_api_v3_key);
isnt(outcome('wechat'), 'paid', 'and in the same session a wrong one');
alter('wechat', api_v3_key => $keys{wechat}{api_v3_key});
is(outcome('wechat'), 'paid', 'and again the right one');
is(outcome('alipay'), 'paid', 'alipay: pay_notify has the right key');
alter('alipay', alipay_public_key_file => "$vectors/alipay/stranger_public_key.pem");
is(outcome('alipay'), 'forged', 'and in the same session a wrong one');
alter('alipay', alipay_public_key_file => $keys{alipay}{alipay_public_key_file});
is(outcome('alipay'), 'paid', 'and again the right one');

# --- Files that change

my %file_option = (wechat => 'private_key', alipay => 'private_key', stripe => 'secret_key');
my %content = (
	wechat => $private_key{wechat}{'PKCS#8'},
	alipay => $private_key{alipay}{'PKCS#8'},
	stripe => $keys{stripe}{secret_key});
my %other_content = (%stranger_key, stripe => $wrong_secret_key);

sub reload
{
	$server->while_worker_looks_round(sub { $server->node->reload });
	return;
}

for my $name (@names)
{
	my %options = (%{ $keys{$name} },
		"$file_option{$name}_file" => write_file("$name.key", $other_content{$name}));
	delete $options{ $file_option{$name} };
	$server->map_user($name, %options);
}
my %replaced = map { $_ => rejected($_, 'a file with another key') } @names;
write_file("$_.key", $content{$_}) for @names;
reload();
retry_ok("$_, a file that is replaced", $replaced{$_}) for @names;

# One that is missing holds up its gateway until it is there again.
unlink "$directory/$_.key" for @names;
reload();
my %missing = map { $_ => refund($_, 'missing') } @names;
for my $name (@names)
{
	like($server->sql("SELECT blocked_by FROM payonce_refund_backlog"
			. " WHERE refund_no = '$missing{$name}'"),
		qr{\Q$directory/$name.key\E.*No such file}, "$name: a file that is missing is named");
}
write_file("$_.key", $content{$_}) for @names;
$server->node->reload;
$server->wait_refunded(values %missing);
unlike($server->calls($_), qr/rejected|unknown/, 'then its refunds go on') for values %missing;

# One with garbage needs a person.
write_file("$_.key", $garbage) for @names;
reload();
my %spoiled = map { $_ => refund($_, 'spoiled') } @names;
$server->wait_status(500, values %spoiled);
for my $name (@names)
{
	my $why = $server->sql("SELECT last_error FROM t_refund WHERE refund_no = '$spoiled{$name}'");
	like($why, qr/^server "$name", option $file_option{$name}: /, "$name: a person is told which");
	hidden_ok("$name, a file with garbage", $why);
	is($gateways{$name}->methods($spoiled{$name}), '', 'and nothing was sent');
}
# Sessions that are new read the file, too; what they say is for the client's eyes.
my $stderr;
$server->node->psql($server->database, "SELECT pay_notify('$_', '{}', '')", stderr => \$stderr,
	extra_params => [ '-v', 'VERBOSITY=verbose' ]),
  like($stderr, qr/could not be judged/, "$_: news cannot be judged"),
  hidden_ok("$_: the warning", $stderr)
  for @names;
write_file("$_.key", $content{$_}) for @names;
reload();
retry_ok("$_, a file that held garbage", $spoiled{$_}) for @names;

# --- A gateway that quotes a secret

# So long that it is cut off, wherever that is, in the middle of the secret.
my @lengths = (0, map { 6 * $_ } 40 .. 52);
my %quoted = (
	stripe => [ { code => 'more_permissions_required', status => 403 },
		$keys{stripe}{secret_key}, $keys{stripe}{webhook_secret} ],
	wechat => [ { code => 'SIGN_ERROR', status => 401 }, $keys{wechat}{api_v3_key} ],
);
for my $name (sort keys %quoted)
{
	my ($error, @secrets) = @{ $quoted{$name} };
	for my $secret (@secrets)
	{
		my $id = 'quoted' . ++$count . 'x';
		$gateways{$name}->faults(
			map +{
				fault => 'provider_error', on => 'refund', match => "^$id$_-", %$error,
				message => 'said: ' . 'x' x $_ . $secret
			}, @lengths);
		my @refund_nos = $server->pay_twice($gateways{$name}, map { "$id$_" } @lengths);
		$server->wait_status(500, @refund_nos);
		is($server->sql("SELECT count(*) FROM t_refund WHERE refund_no LIKE '$id%'"
				. " AND last_error LIKE '%said: %'"),
			scalar @lengths, "$name: its words are kept");
		$gateways{$name}->faults();
		$server->sql(join ';', map { "SELECT refund_retry('$_')" } @refund_nos);
		$server->wait_refunded(@refund_nos);
	}
}

# --- Whose keys, and whose servers

$server->sql(<<"SQL");
CREATE ROLE bob;
GRANT USAGE ON FOREIGN SERVER stripe TO bob;
CREATE USER MAPPING FOR bob SERVER stripe OPTIONS (secret_key '$wrong_secret_key');
CREATE USER MAPPING FOR PUBLIC SERVER stripe OPTIONS (secret_key '$wrong_secret_key');
SQL
refunds_ok('stripe', "beside others' mappings");
$server->sql("DROP USER MAPPING FOR CURRENT_USER SERVER stripe");
my $public = rejected('stripe', 'the mapping of PUBLIC, for want of an own one');
$server->sql("DROP USER MAPPING FOR PUBLIC SERVER stripe");
my $nobodys = refund('stripe', 'nobodys');
$server->wait_status(500, $nobodys);
like($server->sql("SELECT last_error FROM t_refund WHERE refund_no = '$nobodys'"),
	qr/^server "stripe", option secret_key: It is required/, "another role's mapping is not used");
$server->map_user('stripe', %{ $keys{stripe} });
retry_ok('stripe, the mapping is back', $_) for $public, $nobodys;

my $evil = Payonce::Gateway->new('evil', protocol => 'stripe');
$server->sql(<<"SQL");
CREATE ROLE eve;
GRANT USAGE ON FOREIGN DATA WRAPPER payonce_stripe TO eve;
SET ROLE eve;
CREATE SERVER evil FOREIGN DATA WRAPPER payonce_stripe OPTIONS (url '@{[ $evil->url ]}');
RESET ROLE;
SQL
$server->map_user('evil', %{ $keys{stripe} });
my ($to_evil) = $server->pay_twice($evil, 'evil');
$server->wait_status(500, $to_evil);
like($server->sql("SELECT last_error FROM t_refund WHERE refund_no = '$to_evil'"),
	qr/^server "evil" is owned by neither/, "an ordinary user's server is not used");
is($evil->request_count, 0, 'it is sent no key');
$server->sql('ALTER SERVER evil OWNER TO CURRENT_USER');
retry_ok('evil, owned by the right one', $to_evil);

# --- Nowhere to be seen

my $log = slurp_file($server->node->logfile);
my $stored = $server->sql(<<'SQL');
SELECT format('SELECT t::text FROM %s t', c.oid::regclass)
FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
  AND d.deptype = 'e' AND c.relkind IN ('r', 'v')
UNION ALL SELECT 'SELECT a::text FROM pg_stat_activity a WHERE pid <> pg_backend_pid()'
\gexec
SQL
like($log, qr/worker started/, 'the log has what payonce writes');
like($log, qr/ERROR:  the value of option "secret_key" is invalid/, 'and what it refused');
like($stored, qr/quoted\d+x0-2-R1/, 'tables and views have been read');
hidden_ok('the log', $log);
hidden_ok('tables and views', $stored);

$psql->quit;
$server->judge_ok(values %gateways, $evil);
done_testing();
