-- The options of the wrappers as a DBA gives them: what is wrong, missing, or does not belong together
-- is refused when the DDL runs, in words that never show a value. Keys are those of test/vectors: run
-- this where test/ is.
BEGIN;
SET LOCAL client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS payonce;
-- Wherever the two are installed.
SELECT set_config('search_path', string_agg(DISTINCT quote_ident(n.nspname), ', '), true) AS path
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname IN ('pgtap', 'payonce') \gset
SELECT no_plan();

\set merchant_key `cat test/vectors/wechat/merchant_private_key_pkcs8.pem`
\set merchant_key_1 `cat test/vectors/wechat/merchant_private_key_pkcs1.pem`
\set merchant_public `cat test/vectors/wechat/merchant_public_key.pem`
\set merchant_cert `cat test/vectors/wechat/merchant_cert.pem`
\set wechatpay_public `cat test/vectors/wechat/wechatpay_public_key.pem`
\set platform_cert `cat test/vectors/wechat/platform_cert.pem`
\set app_key `cat test/vectors/alipay/app_private_key_pkcs1_bare.txt`
\set app_key_pem `cat test/vectors/alipay/app_private_key_pkcs8.pem`
\set app_public `cat test/vectors/alipay/app_public_key.pem`
\set alipay_public `cat test/vectors/alipay/alipay_public_key_bare.txt`
\set app_cert `cat test/vectors/alipay/app_cert.pem`
\set alipay_cert `cat test/vectors/alipay/alipay_cert.pem`
\set alipay_root_cert `cat test/vectors/alipay/alipay_root_cert.pem`
\set rogue_cert `cat test/vectors/alipay/rogue_alipay_cert.pem`
\set stranger_key `cat test/vectors/alipay/stranger_private_key.pem`
CREATE TEMP TABLE pem (name text PRIMARY KEY, content text);
INSERT INTO pem VALUES
    ('merchant_key', :'merchant_key'), ('merchant_key_1', :'merchant_key_1'),
    ('merchant_public', :'merchant_public'), ('merchant_cert', :'merchant_cert'),
    ('wechatpay_public', :'wechatpay_public'), ('platform_cert', :'platform_cert'), ('app_key', :'app_key'),
    ('app_key_pem', :'app_key_pem'), ('app_public', :'app_public'), ('alipay_public', :'alipay_public'),
    ('app_cert', :'app_cert'), ('alipay_cert', :'alipay_cert'), ('alipay_root_cert', :'alipay_root_cert'),
    ('rogue_cert', :'rogue_cert'), ('stranger_key', :'stranger_key');
SELECT is_empty('SELECT name FROM pem WHERE length(content) < 300', 'the test vectors are here');

CREATE SERVER tap_http FOREIGN DATA WRAPPER payonce_http OPTIONS (url 'https://pay.example/v1');
CREATE SERVER tap_wechat FOREIGN DATA WRAPPER payonce_wechat OPTIONS (url 'https://api.mch.weixin.qq.com');
CREATE SERVER tap_alipay FOREIGN DATA WRAPPER payonce_alipay OPTIONS (url 'https://openapi.alipay.com/gateway.do');
CREATE SERVER tap_stripe FOREIGN DATA WRAPPER payonce_stripe OPTIONS (url 'https://api.stripe.com');

-- The options of complete mappings; "@name" stands for a content of pem.
CREATE TEMP TABLE good (name text PRIMARY KEY, wrapper text, options jsonb);
INSERT INTO good VALUES
    ('open', 'http', '{}'),
    ('http', 'http', '{"bearer_token": "token-1234",
                       "signing_secret": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}'),
    ('wechat', 'wechat', '{"mchid": "1900000001", "serial_no": "3775B6A45ACD588826D15E583A95F5DD00000001",
                           "private_key": "@merchant_key", "api_v3_key": "PayonceTestApiV3Key0123456789abc",
                           "public_key_id": "PUB_KEY_ID_0119000000012026011500000000001234",
                           "public_key": "@wechatpay_public", "appid": "wx1234567890abcdef"}'),
    ('wechat_certificates', 'wechat', '{"mchid": "1900000001",
                           "serial_no": "3775B6A45ACD588826D15E583A95F5DD00000001",
                           "private_key": "@merchant_key_1", "certificates": "@platform_cert"}'),
    ('alipay', 'alipay', '{"app_id": "2021000000000001", "seller_id": "2088000000000001",
                           "private_key": "@app_key", "alipay_public_key": "@alipay_public"}'),
    ('alipay_certificates', 'alipay', '{"app_id": "2021000000000001", "seller_id": "2088000000000001",
                           "private_key": "@app_key_pem", "app_cert": "@app_cert",
                           "alipay_cert": "@alipay_cert", "alipay_root_cert": "@alipay_root_cert"}'),
    ('stripe', 'stripe', '{"secret_key": "sk_test_payonce_not_a_real_key",
                           "webhook_secret": "whsec_payonce_not_a_real_secret"}');

CREATE FUNCTION pg_temp.clause(options jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT ' OPTIONS (' || string_agg(format('%I %L', key, coalesce(p.content, value)), ', ' ORDER BY key) || ')'
    FROM jsonb_each_text(options) o LEFT JOIN pem p ON '@' || p.name = o.value
    WHERE value IS NOT NULL
$$;
CREATE FUNCTION pg_temp.mapping(wrapper text, options jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT 'CREATE USER MAPPING FOR PUBLIC SERVER tap_' || wrapper || coalesce(pg_temp.clause(options), '')
$$;
-- What a statement says, as the client sees it; it is undone.
CREATE TYPE pg_temp.answer AS (sqlstate text, message text, detail text, hint text);
CREATE FUNCTION pg_temp.answer_to(statement text) RETURNS pg_temp.answer LANGUAGE plpgsql AS $$
DECLARE
    answer pg_temp.answer;
BEGIN
    EXECUTE statement;
    RAISE EXCEPTION USING ERRCODE = 'UNDO0';
EXCEPTION
    WHEN SQLSTATE 'UNDO0' THEN
        RETURN ROW('00000', NULL, NULL, NULL)::pg_temp.answer;
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS answer.sqlstate = RETURNED_SQLSTATE, answer.message = MESSAGE_TEXT,
            answer.detail = PG_EXCEPTION_DETAIL, answer.hint = PG_EXCEPTION_HINT;
        RETURN answer;
END
$$;

SELECT is((pg_temp.answer_to(pg_temp.mapping(wrapper, options))).sqlstate, '00000', name || ' is complete')
FROM good ORDER BY name;

-- What is changed in a complete mapping (null: left out), and which option is complained about.
CREATE TEMP TABLE bad (n serial, base text, change jsonb, complaint text, sqlstate text DEFAULT 'HV024');
INSERT INTO bad (base, change, complaint) VALUES
    ('open', '{"bearer_token": "two words"}', 'bearer_token'),
    ('open', '{"bearer_token": "line\nX-Evil: 1"}', 'bearer_token'),
    ('open', '{"bearer_token": ""}', 'bearer_token'),
    ('open', '{"signing_secret": "whsec_dG9vIHNob3J0"}', 'signing_secret'),
    ('open', '{"signing_secret": "whsec_no base64 at all, this"}', 'signing_secret'),
    ('http', '{"bearer_token_file": "/etc/payonce/token"}', 'bearer_token'),
    ('wechat', '{"mchid": null}', 'mchid'),
    ('wechat', '{"mchid": "19000x0001"}', 'mchid'),
    ('wechat', '{"serial_no": null}', 'serial_no'),
    ('wechat', '{"serial_no": "no hexadecimal digits"}', 'serial_no'),
    ('wechat', '{"appid": "wx1234567890abcdef,,"}', 'appid'),
    ('wechat', '{"private_key": null}', 'private_key'),
    ('wechat', '{"private_key": "-----BEGIN PRIVATE KEY-----"}', 'private_key'),
    ('wechat', '{"private_key": "@merchant_public"}', 'private_key'),
    ('wechat', '{"private_key": "@merchant_cert"}', 'private_key'),
    ('wechat', '{"private_key_file": "/etc/payonce/apiclient_key.pem"}', 'private_key'),
    ('wechat', '{"api_v3_key": "only-31-characters-are-in-here-"}', 'api_v3_key'),
    ('wechat', '{"public_key_id": null}', 'public_key_id'),
    ('wechat', '{"public_key_id": "5157F09EFDC096DE15EBE81A47057A7232F1B8E1"}', 'public_key_id'),
    ('wechat', '{"public_key": null}', 'public_key'),
    ('wechat', '{"public_key": "@platform_cert"}', 'public_key'),
    ('wechat', '{"public_key": "@merchant_public"}', 'public_key'),
    ('wechat', '{"public_key": "@merchant_key"}', 'public_key'),
    ('wechat', '{"public_key": null, "public_key_id": null}', 'public_key'),
    ('wechat_certificates', '{"certificates": "@wechatpay_public"}', 'certificates'),
    ('wechat_certificates', '{"certificates": "@merchant_cert"}', 'certificates'),
    ('wechat_certificates', '{"certificates": "nothing of the kind, and long enough"}', 'certificates'),
    ('alipay', '{"app_id": null}', 'app_id'),
    ('alipay', '{"app_id": "2021 0000"}', 'app_id'),
    ('alipay', '{"seller_id": "a seller, somewhere"}', 'seller_id'),
    ('alipay', '{"private_key": null}', 'private_key'),
    ('alipay', '{"private_key": "@alipay_public"}', 'private_key'),
    ('alipay', '{"private_key": "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"}', 'private_key'),
    ('alipay', '{"alipay_public_key": "@app_public"}', 'alipay_public_key'),
    ('alipay', '{"alipay_public_key": "@alipay_cert"}', 'alipay_public_key'),
    ('alipay', '{"alipay_public_key": "@app_key"}', 'alipay_public_key'),
    ('alipay', '{"alipay_public_key": null}', 'alipay_public_key'),
    ('alipay', '{"app_cert": "@app_cert"}', 'alipay_public_key'),
    ('alipay_certificates', '{"private_key": "@stranger_key"}', 'app_cert'),
    ('alipay_certificates', '{"app_cert": "@alipay_cert"}', 'app_cert'),
    ('alipay_certificates', '{"alipay_cert": "@app_cert"}', 'alipay_cert'),
    ('alipay_certificates', '{"alipay_cert": "@rogue_cert"}', 'alipay_cert'),
    ('alipay_certificates', '{"alipay_cert": "@alipay_public"}', 'alipay_cert'),
    ('alipay_certificates', '{"alipay_root_cert": "@rogue_cert"}', 'app_cert'),
    ('alipay_certificates', '{"alipay_root_cert": null}', 'alipay_root_cert'),
    ('alipay_certificates', '{"app_cert": null}', 'app_cert'),
    ('stripe', '{"secret_key": null}', 'secret_key'),
    ('stripe', '{"secret_key": "pk_live_publishable"}', 'secret_key'),
    ('stripe', '{"secret_key": "sk_live_two words"}', 'secret_key'),
    ('stripe', '{"secret_key": "sk_live_a\r\nX-Evil: 1"}', 'secret_key'),
    ('stripe', '{"webhook_secret": "sk_test_payonce_not_a_real_key"}', 'webhook_secret'),
    ('stripe', '{"webhook_secret": "whsec_one whsec_two whsec_three"}', 'webhook_secret'),
    ('stripe', '{"webhook_secret_file": "/etc/payonce/webhook_secret"}', 'webhook_secret');
-- Of another wrapper, of the server, or of nobody.
INSERT INTO bad (base, change, complaint, sqlstate)
SELECT name, jsonb_build_object(option, 'a-value-that-no-error-shows'), option, 'HV00D'
FROM good, unnest(ARRAY['url', 'ca_file', 'timeout', 'paused', 'notify_url', 'user', 'password', 'Mchid']) option
WHERE name IN ('http', 'wechat', 'alipay', 'stripe');
INSERT INTO bad (base, change, complaint, sqlstate) VALUES
    ('http', '{"secret_key": "a-value-that-no-error-shows"}', 'secret_key', 'HV00D'),
    ('wechat', '{"alipay_public_key": "a-value-that-no-error-shows"}', 'alipay_public_key', 'HV00D'),
    ('wechat', '{"mchid_file": "/a-value/that-no-error-shows"}', 'mchid_file', 'HV00D'),
    ('alipay', '{"mchid": "a-value-that-no-error-shows"}', 'mchid', 'HV00D'),
    ('alipay', '{"app_id_file": "/a-value/that-no-error-shows"}', 'app_id_file', 'HV00D'),
    ('stripe', '{"bearer_token": "a-value-that-no-error-shows"}', 'bearer_token', 'HV00D');

CREATE TEMP TABLE refused AS
SELECT b.*, g.wrapper, g.options || b.change AS options,
       pg_temp.answer_to(pg_temp.mapping(g.wrapper, g.options || b.change)) AS answer
FROM bad b JOIN good g ON g.name = b.base;
SELECT is((answer).sqlstate || ' ' || (answer).message,
          sqlstate || CASE sqlstate WHEN 'HV024' THEN format(' the value of option "%s" is invalid', complaint)
                      ELSE format(' invalid option "%s"', complaint) END,
          format('%s with %s', base, change))
FROM refused ORDER BY n;
SELECT is_empty($$SELECT base, change, answer FROM refused
                  WHERE coalesce((answer).detail, '') = '' OR coalesce((answer).hint, '') = ''$$,
                'each says what is wrong, and what to do');
-- Any line of a key, and any other value that is long enough not to stand in an error by chance.
SELECT is_empty(
    $$SELECT r.base, r.change, r.answer, line
      FROM refused r, jsonb_each_text(r.options) o LEFT JOIN pem p ON '@' || p.name = o.value,
           regexp_split_to_table(coalesce(p.content, o.value), '\s+') line
      WHERE length(line) >= 8 AND line NOT IN ('PRIVATE', 'PUBLIC')
        AND line !~ '^(-----BEGIN|-----END|KEY-----|CERTIFICATE-----)'
        AND position(lower(line) IN lower(concat_ws(' ', (r.answer).message, (r.answer).detail, (r.answer).hint))) > 0
        -- Names, no secrets.
        AND key NOT IN ('mchid', 'serial_no', 'appid', 'public_key_id', 'app_id', 'seller_id')$$,
    'and none of them shows a value');

-- An option that is changed is judged with the others, and what was there stays.
SELECT pg_temp.mapping('alipay', options) AS statement FROM good WHERE name = 'alipay' \gexec
SELECT throws_ok(format('ALTER USER MAPPING FOR PUBLIC SERVER tap_alipay OPTIONS (SET alipay_public_key %L)', content),
                 'HV024', 'the value of option "alipay_public_key" is invalid', 'a mapping changed for the worse')
FROM pem WHERE name = 'app_public';
SELECT throws_ok($$ALTER USER MAPPING FOR PUBLIC SERVER tap_alipay OPTIONS (DROP private_key)$$,
                 'HV024', 'the value of option "private_key" is invalid', 'or robbed of its key');
SELECT results_eq($$SELECT option_value::text FROM pg_user_mapping, pg_options_to_table(umoptions)
                    WHERE umserver = (SELECT oid FROM pg_foreign_server WHERE srvname = 'tap_alipay')
                      AND option_name = 'alipay_public_key'$$,
                  $$SELECT content FROM pem WHERE name = 'alipay_public'$$, 'stays as it was');
SELECT lives_ok(format('ALTER USER MAPPING FOR PUBLIC SERVER tap_alipay OPTIONS (SET private_key %L)', content),
                'the same key in its other form is none the worse') FROM pem WHERE name = 'app_key_pem';

-- Servers.
CREATE TEMP TABLE server_attempt (wrapper text, options jsonb, sqlstate text, complaint text);
INSERT INTO server_attempt
SELECT w, o.options, o.sqlstate, o.complaint
FROM unnest(ARRAY['http', 'wechat', 'alipay', 'stripe']) w,
     (VALUES ('{"url": "https://pay.example/v1", "timeout": "10s", "max_in_flight": "4", "rate_limit": "5",'
              ' "paused": "true", "ca_file": "/etc/ssl/ca.pem"}'::jsonb, '00000', NULL),
             ('{"url": "http://127.0.0.1:8080"}', '00000', NULL),
             ('{}', 'HV00J', 'option "url" is missing'),
             ('{"url": "http://pay.example"}', 'HV024', 'the value of option "url" is invalid'),
             ('{"url": "https://user:hush-hush@pay.example"}', 'HV024', 'the value of option "url" is invalid'),
             ('{"url": "https://pay.example", "timeout": "1ms"}', 'HV024', 'the value of option "timeout" is invalid'),
             ('{"url": "https://pay.example", "max_in_flight": "0"}', 'HV024',
              'the value of option "max_in_flight" is invalid'),
             ('{"url": "https://pay.example", "rate_limit": "fast"}', 'HV024',
              'the value of option "rate_limit" is invalid'),
             ('{"url": "https://pay.example", "private_key": "hush-hush"}', 'HV00D', 'invalid option "private_key"'),
             ('{"url": "https://pay.example", "secret_key": "hush-hush"}', 'HV00D', 'invalid option "secret_key"')
     ) o (options, sqlstate, complaint);
INSERT INTO server_attempt VALUES
    ('wechat', '{"url": "https://api.mch.weixin.qq.com", "notify_url": "https://shop.example/notify"}', '00000', NULL),
    ('wechat', '{"url": "https://api.mch.weixin.qq.com", "notify_url": "http://shop.example/notify"}', 'HV024',
     'the value of option "notify_url" is invalid'),
    ('wechat', '{"url": "https://api.mch.weixin.qq.com", "notify_url": "https://shop.example/?key=hush-hush"}', 'HV024',
     'the value of option "notify_url" is invalid'),
    ('alipay', '{"url": "https://openapi.alipay.com/gateway.do", "notify_url": "https://shop.example/"}', 'HV00D',
     'invalid option "notify_url"'),
    ('wechat', '{"url": "https://api.mch.weixin.qq.com", "mchid": "1900000001"}', 'HV00D', 'invalid option "mchid"');
CREATE TEMP TABLE server_answer AS
SELECT row_number() OVER () AS n, s.*,
       pg_temp.answer_to('CREATE SERVER tried FOREIGN DATA WRAPPER payonce_' || s.wrapper
                         || coalesce(pg_temp.clause(s.options), '')) AS answer
FROM server_attempt s;
SELECT is(concat_ws(' ', (answer).sqlstate, (answer).message), concat_ws(' ', sqlstate, complaint),
          format('server of %s with %s', wrapper, options))
FROM server_answer ORDER BY n;
SELECT is_empty($$SELECT * FROM server_answer WHERE answer::text LIKE '%hush%'$$, 'and none shows a value');

-- A wrapper takes no options of its own, and is no table.
SELECT throws_ok(format('ALTER FOREIGN DATA WRAPPER payonce_%s OPTIONS (ADD url ''https://pay.example'')', w),
                 'HV00D', 'invalid option "url"', w || ' has no options as a whole')
FROM unnest(ARRAY['http', 'wechat', 'alipay', 'stripe']) w;
SELECT throws_ok(format('CREATE FOREIGN TABLE reports (id text) SERVER tap_%s OPTIONS (url ''x'')', w),
                 'HV00D', 'invalid option "url"', w || ' knows no tables')
FROM unnest(ARRAY['http', 'wechat', 'alipay', 'stripe']) w;

-- Files: a dump must be restored where they are not yet, so a missing one is only a warning; their
-- names are for those who may read the server's files.
SELECT lives_ok($$CREATE USER MAPPING FOR CURRENT_USER SERVER tap_wechat OPTIONS (
                      mchid '1900000001', serial_no '3775B6A4', private_key_file '/nowhere/apiclient_key.pem',
                      certificates_file '/nowhere/platform.pem')$$, 'files that are not there yet');
SELECT throws_ok($$CREATE USER MAPPING FOR CURRENT_USER SERVER tap_stripe OPTIONS (secret_key_file 'secret_key')$$,
                 'HV024', 'the value of option "secret_key_file" is invalid', 'a path must be whole');
CREATE ROLE payonce_tap_owner;
GRANT USAGE ON FOREIGN DATA WRAPPER payonce_http, payonce_wechat, payonce_alipay, payonce_stripe
    TO payonce_tap_owner;
SELECT format('GRANT USAGE ON SCHEMA %I TO payonce_tap_owner', n.nspname)
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname IN ('pgtap', 'payonce') \gexec
SET LOCAL ROLE payonce_tap_owner;
CREATE SERVER tap_owned FOREIGN DATA WRAPPER payonce_stripe OPTIONS (url 'https://api.stripe.com');
SELECT throws_ok($$CREATE USER MAPPING FOR CURRENT_USER SERVER tap_owned OPTIONS (secret_key_file '/etc/passwd')$$,
                 '42501', 'permission denied to set option "secret_key_file"', 'and is not for everyone to name');
SELECT throws_ok($$CREATE USER MAPPING FOR CURRENT_USER SERVER tap_owned
                   OPTIONS (secret_key 'sk_test_x', webhook_secret_file '/etc/passwd')$$,
                 '42501', 'permission denied to set option "webhook_secret_file"', 'whichever option it is');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
