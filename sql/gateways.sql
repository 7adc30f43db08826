-- Gateways: servers and user mappings of payonce_http, checked when the DDL runs.
\i sql/include/begin.sql

-- A server with every option, and a mapping with every secret.
CREATE SERVER pay FOREIGN DATA WRAPPER payonce_http OPTIONS (
    url 'https://pay.example.com/v1', ca_file '/etc/ssl/certs/pay.pem', timeout '15s', max_in_flight '8',
    rate_limit '100', paused 'on');
CREATE USER MAPPING FOR CURRENT_USER SERVER pay OPTIONS (
    bearer_token 'token-1234', signing_secret 'whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=');
CREATE USER MAPPING FOR PUBLIC SERVER pay OPTIONS (
    bearer_token_file '/etc/payonce/token', signing_secret_file '/etc/payonce/secret');
ALTER SERVER pay OPTIONS (SET timeout '500ms', DROP rate_limit, SET paused 'false');
ALTER USER MAPPING FOR CURRENT_USER SERVER pay OPTIONS (SET bearer_token 'token-5678', DROP signing_secret);
-- The least there can be: an open gateway.
CREATE SERVER open FOREIGN DATA WRAPPER payonce_http OPTIONS (url 'https://open.example');
CREATE USER MAPPING FOR CURRENT_USER SERVER open;
-- These are gateways, not tables.
CREATE FOREIGN TABLE reports (id text) SERVER open;
SELECT * FROM reports;
DROP FOREIGN TABLE reports;

-- As a DBA sees it.
CREATE SERVER bad FOREIGN DATA WRAPPER payonce_http OPTIONS (url 'https://a.example', uri 'x');
\echo :LAST_ERROR_SQLSTATE
CREATE SERVER bad FOREIGN DATA WRAPPER payonce_http;
\echo :LAST_ERROR_SQLSTATE
CREATE SERVER bad FOREIGN DATA WRAPPER payonce_http OPTIONS (url 'pay.example.com');
\echo :LAST_ERROR_SQLSTATE
CREATE SERVER bad FOREIGN DATA WRAPPER payonce_http OPTIONS (url 'http://pay.example.com');
\echo :LAST_ERROR_SQLSTATE

-- Addresses, good and bad.
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.try_servers(VARIADIC options text[]) RETURNS TABLE (attempt text)
LANGUAGE sql AS $$
    SELECT regexp_replace(a.attempt, '^CREATE SERVER.* OPTIONS \((.*)\); DROP SERVER.*', '\1')
    FROM pg_temp.attempt(VARIADIC (
        SELECT array_agg('CREATE SERVER tried FOREIGN DATA WRAPPER payonce_http OPTIONS (' || option ||
                         '); DROP SERVER tried')
        FROM unnest(options) option)) a
$$;
SELECT * FROM pg_temp.try_servers(VARIADIC (SELECT array_agg('url ' || quote_literal(url)) FROM unnest(ARRAY[
    'https://pay.example.com', 'HTTPS://pay.example.com:8443/v1/', 'https://[2001:db8::1]/',
    'http://127.0.0.1:8080', 'http://127.8.8.8', 'http://localhost/pay', 'http://[::1]:8080',
    '', 'pay.example.com', 'pay.example.com/v1', '//pay.example.com', 'https:pay.example.com', 'https://',
    'https:///v1', 'http://pay.example.com', 'http://10.0.0.1', 'http://0.0.0.0', 'http://localhost.example.com',
    'http://127.0.0.1.example.com', 'ftp://pay.example.com', 'file:///etc/passwd', 'javascript:alert(1)',
    'https://user:secret@pay.example.com', 'http://localhost@pay.example.com', 'https://pay.example.com?key=1',
    'https://pay.example.com/#top', 'https://pay example.com', E'https://pay.example.com/\r\nX-Evil: 1',
    'https://pay.example.com%2f@evil.example', 'https://支付.example', 'https://pay.example.com:99999',
    'https://pay.example.com/' || repeat('x', 1977)
]) url));

-- The other options of a server.
SELECT * FROM pg_temp.try_servers(VARIADIC (SELECT array_agg('url ''https://a.example'', ' || option) FROM unnest(ARRAY[
    'timeout ''100ms''', 'timeout ''10min''', 'timeout ''30000''', 'timeout ''99ms''', 'timeout ''11min''',
    'timeout ''soon''', 'timeout ''''', 'timeout ''-1s''', 'timeout ''99999999999999999999s''',
    'max_in_flight ''1''', 'max_in_flight ''1000''', 'max_in_flight ''0''', 'max_in_flight ''1001''',
    'max_in_flight ''-1''', 'max_in_flight ''8 or so''', 'rate_limit ''1''', 'rate_limit ''1000000''',
    'rate_limit ''0''', 'rate_limit ''1000001''', 'rate_limit ''NaN''',
    'paused ''yes''', 'paused ''off''', 'paused ''maybe''', 'paused ''''', 'ca_file ''/etc/ssl/ca.pem''',
    'ca_file ''ca.pem''', 'ca_file ''''', 'bearer_token ''x''', 'secret ''x''', '"URL" ''x''', 'user ''x'''
]) option));

-- The options of a user mapping.
CREATE FUNCTION pg_temp.try_mappings(VARIADIC options text[]) RETURNS TABLE (attempt text)
LANGUAGE sql AS $$
    SELECT regexp_replace(a.attempt, '^CREATE USER MAPPING.* OPTIONS \((.*)\); DROP USER MAPPING.*', '\1')
    FROM pg_temp.attempt(VARIADIC (
        SELECT array_agg('CREATE USER MAPPING FOR PUBLIC SERVER open OPTIONS (' || option ||
                         '); DROP USER MAPPING FOR PUBLIC SERVER open')
        FROM unnest(options) option)) a
$$;
SELECT * FROM pg_temp.try_mappings(
    'bearer_token ''!~''', 'bearer_token ''''', 'bearer_token ''two words''', E'bearer_token ''two\nlines''',
    'bearer_token ''口令''', 'bearer_token_file ''/etc/payonce/token''', 'bearer_token_file ''token''',
    'bearer_token ''x'', bearer_token_file ''/etc/payonce/token''',
    'signing_secret ''MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz''', 'signing_secret ''whsec_''', 'signing_secret ''whsec_MTIz''',
    'signing_secret ''whsec_not base64''', 'signing_secret ''''', 'signing_secret_file ''/etc/payonce/secret''',
    'signing_secret_file ''../secret''', 'url ''https://a.example''', 'password ''x''', 'paused ''true''');
-- The longest token is 4096 characters.
SELECT regexp_replace(attempt, 'x{100,}', 'x…') FROM pg_temp.try_mappings(
    format('bearer_token %L', repeat('x', 4096)), format('bearer_token %L', repeat('x', 4097)));
\pset format aligned
\pset tuples_only off

-- A wrapper and its servers take options by ALTER as well, and the wrapper itself has none.
ALTER SERVER open OPTIONS (ADD timeout 'later');
ALTER SERVER open OPTIONS (DROP url);
ALTER USER MAPPING FOR CURRENT_USER SERVER open OPTIONS (SET bearer_token 'a b');
ALTER FOREIGN DATA WRAPPER payonce_http OPTIONS (url 'https://a.example');
CREATE FOREIGN TABLE reports (id text OPTIONS (x 'y')) SERVER open OPTIONS (z 'z');

-- An error never shows the value of an option, for it may be a secret. (The server's log has the
-- statement: hence the files.)
CREATE FUNCTION pg_temp.tells(statement text, secret text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    message text;
    detail text;
    hint text;
BEGIN
    EXECUTE statement;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN strpos(message || detail || hint, secret) > 0;
END
$$;
SELECT option, pg_temp.tells(
    format('CREATE USER MAPPING FOR PUBLIC SERVER open OPTIONS (%s %L)', option, 'hush hush'), 'hush')
FROM unnest(ARRAY['bearer_token', 'signing_secret', 'bearer_token_file', 'signing_secret_file', 'password']) option;
SELECT option, pg_temp.tells(
    format('CREATE SERVER tells FOREIGN DATA WRAPPER payonce_http OPTIONS (%s %L)', option, value), 'hush')
FROM (VALUES ('url', 'https://hush:hush@a.example'), ('timeout', 'hush'), ('ca_file', 'hush'),
             ('bearer_token', 'hush')) options (option, value);

-- The validator itself, called with what no DDL would give it.
\pset format unaligned
\pset tuples_only on
SELECT * FROM pg_temp.attempt(VARIADIC (
    SELECT array_agg(format('SELECT payonce_http_validator(%s)', call)) FROM unnest(ARRAY[
    'NULL, NULL', '''{}'', 0', '''{}'', 1418', '''{x=1}'', 0', '''{x=1}'', 4294967295', '''{url}'', 1417',
    '''{=}'', 1417', '''{NULL}'', 1417', '''{{url=https://a.example,paused=true}}'', 1417',
    '''[5:5]={url=https://a.example}'', 1417', '''{url=https://a.example,url=x}'', 1417'
]) call));
\pset format aligned
\pset tuples_only off

-- Who may not read the server's files may not have the server read them. Not even by way of a
-- wrapper's use and a mapping of one's own.
CREATE ROLE regress_payonce_shop;
GRANT USAGE ON FOREIGN DATA WRAPPER payonce_http TO regress_payonce_shop;
SET ROLE regress_payonce_shop;
CREATE SERVER mine FOREIGN DATA WRAPPER payonce_http OPTIONS (url 'https://mine.example', ca_file '/etc/passwd');
\echo :LAST_ERROR_SQLSTATE
CREATE SERVER mine FOREIGN DATA WRAPPER payonce_http OPTIONS (url 'https://mine.example');
CREATE USER MAPPING FOR CURRENT_USER SERVER mine OPTIONS (bearer_token_file '/etc/passwd');
CREATE USER MAPPING FOR CURRENT_USER SERVER mine OPTIONS (signing_secret_file '/etc/passwd');
CREATE USER MAPPING FOR CURRENT_USER SERVER mine OPTIONS (bearer_token 'of-the-shop');
ALTER USER MAPPING FOR CURRENT_USER SERVER mine OPTIONS (ADD signing_secret_file '/etc/passwd');
RESET ROLE;
GRANT pg_read_server_files TO regress_payonce_shop;
SET ROLE regress_payonce_shop;
ALTER USER MAPPING FOR CURRENT_USER SERVER mine OPTIONS (ADD signing_secret_file '/etc/payonce/secret');
ALTER SERVER mine OPTIONS (ADD ca_file '/etc/ssl/certs/mine.pem');
RESET ROLE;

DROP SERVER pay CASCADE;
DROP SERVER open CASCADE;
DROP OWNED BY regress_payonce_shop CASCADE;
DROP ROLE regress_payonce_shop;
