-- Notifications without an application: a function that PostgREST, or another front that gives SQL
-- the request, calls for POST /rpc/notify_wechat. An argument without a name gets the raw body.
--
--     psql -v front=web_anon -f postgrest.sql
--
-- WeChat Pay, Stripe and the generic gateway send application/json: the argument is of type json,
-- which keeps the bytes as they came (jsonb would not). For Alipay, whose body is a form, see the
-- note at the end.
CREATE FUNCTION notify_wechat(json) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    reply record;
BEGIN
    SELECT * INTO reply
    FROM pay_notify('wechat', current_setting('request.headers')::jsonb, $1::text);
    PERFORM set_config('response.status', reply.http_status::text, true);
    PERFORM set_config('response.headers',
                       json_build_array(json_build_object('Content-Type', reply.content_type))::text, true);
    RETURN reply.body;
END $$;
REVOKE ALL ON FUNCTION notify_wechat(json) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION notify_wechat(json) TO :"front";

-- PostgREST gives a function a raw text or bytea only for the content types text/plain and
-- application/octet-stream. Alipay sends application/x-www-form-urlencoded, which would be taken
-- apart: have the proxy in front set Content-Type: text/plain for this path, and declare the
-- function notify_alipay(text).
