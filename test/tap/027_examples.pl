# The examples do what they say: the small application (also used by 022 to 024), and the function for
# fronts that give SQL the request.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use HTTP::Tiny;
use JSON::PP;
use Test::More;

use Payonce::Gateway;
use Payonce::NotifyServer;
use Payonce::TestServer;

my $server = Payonce::TestServer->new('main');
$server->wait_for_worker;
my $gateway = Payonce::Gateway->new('wechat', protocol => 'wechat');
$server->add_gateway($gateway);

# message(PAYMENT_ID): the notification of its success, as the gateway would send it.
sub message
{
	my ($payment_id) = @_;
	my $told = $gateway->notify({ kind => 'payment', payment_id => $payment_id, deliver => JSON::PP::false });
	return $told->{notifications}[0];
}

# --- As PostgREST calls it: the headers in a setting, the raw body as the argument without a name

$server->sql('CREATE ROLE web_anon');
$server->sql('\set front web_anon' . "\n\\i $FindBin::RealBin/../../examples/postgrest.sql");

sub call_as_postgrest
{
	my ($message, $body) = @_;
	my $headers = JSON::PP->new->canonical->encode($message->{headers}) =~ s/'/''/gr;
	my $literal = ($body // $message->{body}) =~ s/'/''/gr;
	return $server->sql(<<"SQL");
BEGIN;
SET LOCAL ROLE web_anon;
SELECT set_config('request.headers', '$headers', true) IS NULL;
SELECT notify_wechat('$literal'::json);
SELECT current_setting('response.status'), current_setting('response.headers');
COMMIT;
SQL
}

$server->add_orders({ id => 'front', payments => [ [ 'front-1', $gateway ], [ 'front-2', $gateway ] ] });
is(call_as_postgrest(message('front-1')),
	qq(f\n{"code":"SUCCESS","message":"OK"}\n200|[{"Content-Type" : "application/json"}]),
	'a function in front of pay_notify answers as the gateway wants');
is($server->sql("SELECT paid_by FROM t_order WHERE id = 'front'"), 'front-1', 'and decides');
my $forged = message('front-2');
like(call_as_postgrest($forged, $forged->{body} =~ s/TRANSACTION/ TRANSACTION/r),
	qr/"FAIL".*\n400/, 'a changed body is refused');
like($server->sql_error("SET ROLE web_anon; SELECT * FROM pay_notify('wechat', '{}', '')"),
	qr/42501/, 'the front may call that function and nothing else');

# --- The application

my $application = Payonce::NotifyServer->new($server);

sub post
{
	my ($path, $message) = @_;
	my $url = $application->url('') =~ s{/notify/$}{$path}r;
	my $content = $message->{body};
	utf8::encode($content) if utf8::is_utf8($content);
	my $answer = HTTP::Tiny->new(timeout => 60, proxy => undef, http_proxy => undef)
	  ->post($url, { headers => $message->{headers}, content => $content });
	return "$answer->{status} $answer->{content}";
}

is(post('/notify/wechat', message('front-2')), '200 {"code":"SUCCESS","message":"OK"}',
	'the application hands a notification on and returns the answer');
$server->wait_refunded('front-2-R1');
is(post('/notify/wechat', { headers => {}, body => '{}' }), '400 {"code":"FAIL","message":"refused"}',
	'a stranger is refused');
is(post('/notify/wechat', { headers => {}, body => "\xff\xfe" }), '500 ',
	'what is no text is not acknowledged');
is(post('/notify/nobody', { headers => {}, body => '{}' }), '500 ',
	'what goes to no gateway is not acknowledged');
is(post('/elsewhere', { headers => {}, body => '{}' }), '404 ', 'other paths are nobody\'s');
# The connection is lost, and made again.
$server->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
	. " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()");
like(join(' ', map { post('/notify/wechat', message('front-1')) } 1 .. 2),
	qr/200 \{"code":"SUCCESS"[^ ]*$/, 'after a lost connection it goes on');

$server->judge_ok($gateway);
done_testing();
