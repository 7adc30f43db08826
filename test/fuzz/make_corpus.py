#!/usr/bin/env python3
"""Writes the seeds of the corpus: test/fuzz/corpus/TARGET/seed_NAME, from test/vectors.

The same files on every run. What fuzzing has found lies beside them, under names of libFuzzer's
making, and is left alone.
"""

import base64
import json
import re
from itertools import chain
from pathlib import Path
from typing import Any, Iterator
from urllib.parse import urlencode

FUZZ = Path(__file__).resolve().parent
VECTORS = FUZZ.parent / "vectors"
NOW = 1768443632

Seed = tuple[str, bytes]


def vectors(name: str) -> list[dict[str, Any]]:
    return json.loads((VECTORS / name).read_text("utf-8"))["vectors"]


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def message(first_line: str, headers: dict[str, str], body: str) -> bytes:
    lines = [first_line, *(f"{name}: {value}" for name, value in headers.items()), "", body]
    return "\n".join(lines).encode()


def answer(status: int, kind: str, headers: dict[str, str], body: str, now: int = NOW) -> bytes:
    return message(f"{status} {kind} {now}", headers, body)


def both_kinds(name: str, status: int, body: str, headers: dict[str, str] | None = None) -> Iterator[Seed]:
    for kind in ("refund", "query"):
        yield f"{name}_{kind}", answer(status, kind, headers or {}, body)


# --- Answers -------------------------------------------------------------------------------------


def answers_of_http() -> Iterator[Seed]:
    for status in ("succeeded", "processing", "failed", "new"):
        body = {"status": status, "refund_id": "R-1", "refund_no": "PAYR20260115000001"}
        yield from both_kinds(status, 200, compact(body))
    yield from both_kinds("another", 201, compact({"status": "succeeded", "refund_no": "other"}))
    for code in (202, 400, 404, 408, 429, 500, 503):
        yield from both_kinds(f"status_{code}", code, compact({"error": "no\tbalance"}))
    yield from both_kinds("html", 502, "<html>\r\n<h1>502 Bad Gateway</h1>")


def signed_by_wechat(vector: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in vector["headers"].items()}


def answers_of_wechat() -> Iterator[Seed]:
    for vector in vectors("wechat/verify_responses.json"):
        body = answer(vector["http_status"], "refund", signed_by_wechat(vector), vector["body"],
                      vector["now"])
        yield vector["name"], body
        yield vector["name"] + "_query", body.replace(b" refund ", b" query ", 1)
    headers = signed_by_wechat(vectors("wechat/verify_responses.json")[0])
    for status in ("SUCCESS", "PROCESSING", "CLOSED", "ABNORMAL", "NEW"):
        refund = {
            "refund_id": "50000000382019052709732678859", "out_refund_no": "PAYR20260115000001",
            "out_trade_no": "P20260115000001", "transaction_id": "4200002026011500000000000001",
            "status": status, "amount": {"total": 9999, "refund": 1299, "currency": "CNY"},
        }
        yield from both_kinds(f"unsigned_{status}", 200, compact(refund), headers)
        refund["amount"]["refund"] = 1298
        yield from both_kinds(f"other_amount_{status}", 200, compact(refund), headers)
    for code, name in ((401, "SIGN_ERROR"), (403, "NOT_ENOUGH"), (403, "NO_AUTH"),
                       (404, "RESOURCE_NOT_EXISTS"), (404, "MCH_NOT_EXISTS"), (400, "PARAM_ERROR"),
                       (403, "USER_ACCOUNT_ABNORMAL"), (429, "FREQUENCY_LIMITED"),
                       (500, "SYSTEM_ERROR")):
        yield from both_kinds(f"error_{name}", code, compact({"code": name, "message": "余额不足"}))
    yield from both_kinds("twice", 404, '{"code":"RESOURCE_NOT_EXISTS","code":"NOT_ENOUGH"}')


def kind_of_alipay(method: str) -> str:
    return "query" if method.endswith("refund.query") else "refund"


def answers_of_alipay() -> Iterator[Seed]:
    for vector in vectors("alipay/verify_responses.json"):
        yield vector["name"], answer(200, kind_of_alipay(vector["method"]), {}, vector["raw"])
    names = {"refund": "alipay_trade_refund_response",
             "query": "alipay_trade_fastpay_refund_query_response"}
    ours = {"code": "10000", "msg": "Success", "out_trade_no": "P20260115000001",
            "trade_no": "2026011522001400000000000001", "out_request_no": "PAYR20260115000001"}
    for name, kind, node in (
        ("moved", "refund", ours | {"fund_change": "Y"}),
        ("moved_another", "refund", ours | {"fund_change": "Y", "out_request_no": "OTHER"}),
        ("moved_of_another", "refund", ours | {"fund_change": "Y", "trade_no": "OTHER"}),
        ("done_another", "query", ours | {"refund_status": "REFUND_SUCCESS",
                                          "refund_amount": "12.99", "out_request_no": "OTHER"}),
        ("not_moved", "refund", ours | {"fund_change": "N"}),
        ("done", "query", ours | {"refund_status": "REFUND_SUCCESS", "refund_amount": "12.99"}),
        ("other_amount", "query", ours | {"refund_status": "REFUND_SUCCESS", "refund_amount": "1"}),
        ("not_there", "query", ours),
        ("balance", "refund", {"code": "40004", "sub_code": "ACQ.SELLER_BALANCE_NOT_ENOUGH"}),
        ("refused", "refund", {"code": "40004", "sub_code": "ACQ.TRADE_HAS_CLOSE"}),
        ("no_trade", "query", {"code": "40004", "sub_code": "ACQ.TRADE_NOT_EXIST"}),
        ("setup", "refund", {"code": "40002", "sub_code": "isv.invalid-signature"}),
        ("limited", "refund", {"code": "40005", "sub_msg": "too many"}),
    ):
        body = {names[kind]: node, "alipay_cert_sn": "57ff0db9a6bdb6cadcba860cdbdc98ad",
                "sign": "AAAA"}
        yield f"accepted_{name}", answer(200, kind, {}, compact(body))
    yield "error_response", answer(200, "query", {},
                                   compact({"error_response": {"code": "40006", "msg": "no"}}))
    yield "status_503", answer(503, "refund", {}, "busy")


def stripe_refund(status: str, **more: Any) -> dict[str, Any]:
    return {
        "id": "re_3PayonceTest000000001", "object": "refund", "amount": 1299, "currency": "usd",
        "status": status, "payment_intent": "pi_3PayonceTest000000001", "charge": None,
        "metadata": {"out_refund_no": "PAYR20260115000001"}, **more,
    }


def answers_of_stripe() -> Iterator[Seed]:
    for status in ("succeeded", "pending", "requires_action", "failed", "canceled", "new"):
        refund = stripe_refund(status, failure_reason="lost_or_stolen_card",
                               pending_reason="insufficient_funds")
        yield from both_kinds(status, 200, compact(refund))
        other = stripe_refund("pending", id="re_2", metadata={})
        for more in (False, True):
            for name, data in (("only", [refund]), ("one", [other, refund]), ("none", [other]),
                               ("both", [stripe_refund("succeeded", id="re_2"), refund])):
                page = {"object": "list", "data": data, "has_more": more}
                yield f"list_{name}_{status}_{more}", answer(200, "query", {}, compact(page))
    for code, error in (
        (400, {"type": "invalid_request_error", "code": "charge_already_refunded"}),
        (400, {"type": "invalid_request_error", "message": "Insufficient funds in account"}),
        (400, {"type": "idempotency_error", "message": "Keys for idempotent requests"}),
        (401, {"type": "invalid_request_error", "message": "Invalid API Key"}),
        (402, {"type": "card_error", "code": "balance_insufficient"}),
        (404, {"type": "invalid_request_error", "code": "resource_missing"}),
        (409, {"code": "idempotency_key_in_use"}), (429, {"code": "lock_timeout"}),
        (500, {"type": "api_error"}),
    ):
        headers = {"Request-Id": "req_1", "Idempotent-Replayed": "true"}
        yield from both_kinds(f"error_{code}_{len(compact(error))}", code,
                              compact({"error": error}), headers)
    yield from both_kinds("retry", 400, '{"error":{}}', {"Stripe-Should-Retry": "true"})


# --- Notifications -------------------------------------------------------------------------------


def notices_of_http() -> Iterator[Seed]:
    for kind in ("payment.succeeded", "payment.failed"):
        body = {"type": kind, "payment_id": "P20260115000001", "amount": 9999, "currency": "CNY",
                "transaction_id": "T-1"}
        yield kind, message(str(NOW), {}, compact(body))
    for kind in ("refund.succeeded", "refund.failed"):
        body = {"type": kind, "refund_no": "PAYR20260115000001", "amount": 1299,
                "refund_id": "R-1", "error": "account closed"}
        headers = {"webhook-id": "msg_1", "webhook-timestamp": str(NOW),
                   "webhook-signature": "v1,AAAA v1a,BBBB"}
        yield kind, message(str(NOW), headers, compact(body))
    yield "other", message(str(NOW), {}, compact({"type": "refund.created"}))


def notices_of_wechat() -> Iterator[Seed]:
    for vector in vectors("wechat/verify_notifications.json"):
        headers = signed_by_wechat(vector)
        yield vector["name"], message(str(vector["now"]), headers, vector["body"])
        plaintext = vector["expect"].get("plaintext")
        if plaintext is None:
            continue
        envelope = json.loads(vector["body"])
        envelope["resource"]["ciphertext"] = plaintext
        yield vector["name"] + "_open", message(str(vector["now"]), headers, compact(envelope))


def notices_of_alipay() -> Iterator[Seed]:
    for vector in vectors("alipay/verify_notifications.json"):
        yield vector["name"], message(str(NOW), {}, vector["raw_body"])
    fields = {"app_id": "2021000000000001", "charset": "utf-8", "sign_type": "RSA2", "sign": "AAAA",
              "trade_no": "2026011522001400000000000001", "out_trade_no": "P20260115000001"}
    for name, more in (
        ("paid", {"trade_status": "TRADE_SUCCESS", "total_amount": "99.99"}),
        ("closed", {"trade_status": "TRADE_CLOSED", "total_amount": "99.99"}),
        ("refunded", {"trade_status": "TRADE_SUCCESS", "refund_fee": "12.99",
                      "out_biz_no": "PAYR20260115000001", "gmt_refund": "2026-01-15 10:20:31"}),
        ("message", {"msg_method": "alipay.trade.refund.depositback.completed"}),
    ):
        yield f"accepted_{name}", message(str(NOW), {}, urlencode(fields | more))


def notices_of_stripe() -> Iterator[Seed]:
    for vector in vectors("stripe/verify_webhooks.json"):
        headers = {"Stripe-Signature": vector["header"]}
        yield vector["name"], message(str(vector["now"]), headers, vector["body"])
    event = {"id": "evt_1", "object": "event", "livemode": False}
    session = {"id": "cs_1", "object": "checkout.session", "payment_status": "paid",
               "payment_intent": "pi_3PayonceTest000000001", "client_reference_id": "P1",
               "amount_total": 9999, "currency": "usd"}
    intent = {"id": "pi_3PayonceTest000000001", "object": "payment_intent", "amount_received": 9999,
              "currency": "usd", "status": "succeeded", "metadata": {"out_trade_no": "P1"}}
    for kind, thing in (
        ("checkout.session.completed", session), ("checkout.session.expired", session),
        ("payment_intent.succeeded", intent), ("payment_intent.payment_failed", intent),
        ("refund.updated", stripe_refund("succeeded")), ("refund.failed", stripe_refund("failed")),
        ("charge.refunded", {"object": "charge"}),
    ):
        body = compact(event | {"type": kind, "data": {"object": thing}})
        yield kind, message(str(NOW), {}, body)


# --- Parts ---------------------------------------------------------------------------------------


def forms() -> Iterator[Seed]:
    for vector in vectors("alipay/verify_notifications.json")[:3]:
        yield vector["name"], vector["raw_body"].encode()
    for name, text in (("empty", ""), ("equals", "a=b=c&d="), ("no_equals", "a&b"),
                       ("cut", "a=%4"), ("bad", "a=%zz"), ("twice", "a=1&a=2"), ("plus", "a+b=+"),
                       ("end", "a=1&"), ("lines", "a=1\nb=%00\n=\n&=&")):
        yield name, text.encode()


def json_texts() -> Iterator[Seed]:
    for name, text in (
        ("text", '{"a":"b","c":"\\u0000\\ud83d\\ude00\\n","d":"\x7f\u0085"}'),
        ("numbers", '{"a":1,"b":-1,"c":1.0,"d":9223372036854775807,"e":9223372036854775808,'
                    '"f":-9223372036854775808,"g":1e400,"h":18446744073709551616}'),
        ("nested", '{"a":{"b":[{"c":null}]},"d":[true,false]}'),
        ("twice", '{"a":1,"a":"2"}'),
        ("escaped_name", '{"\\u0061":1,"a":2}'),
        ("blanks", ' {\t"a" :\r\n1 , "b":[ ] } '),
        ("in_string", '{"a":"}\\\\\\",{\\"sign\\":[","sign":"x"}'),
        ("mark", "\ufeff{}"),
        ("array", "[1,2]"),
        ("zero", '{"a":1}\0{"b":2}'),
        ("deep", '{"a":' + "[" * 40 + "]" * 40 + "}"),
        ("many", compact({f"m{i}": i for i in range(201)})),
    ):
        yield name, text.encode()
    for vector in vectors("alipay/verify_responses.json")[:5]:
        yield vector["name"], vector["raw"].encode()


def texts() -> Iterator[Seed]:
    for name, text in (
        ("ascii", b"The balance is too small."), ("chinese", "余额不足".encode()),
        ("emoji", "\U0001f600\u00e9".encode()), ("controls", b"a\0b\tc\x1b[31m\x7f\xc2\x85"),
        ("c1", "".join(chr(code) for code in range(0x80, 0xA1)).encode()),
        ("overlong", b"\xc0\xaf\xe0\x80\xaf\xf0\x80\x80\xaf"), ("surrogate", b"\xed\xa0\x80"),
        ("above", b"\xf4\x90\x80\x80\xf5\xff"), ("cut", b"ab\xe4\xbd"),
        ("last", b"\xf4\x8f\xbf\xbf\xef\xbf\xbf"), ("long", "错误".encode() * 90),
    ):
        yield name, text


def amounts() -> Iterator[Seed]:
    for i, text in enumerate(("0", "0.01", "12.99", "12.9", "99.", ".5", "-1", "1e3", "1,5", "+1",
                              "999999999999999.99", "1000000000000000", "00001.10", "1.999")):
        yield str(i), text.encode()


def urls() -> Iterator[Seed]:
    for i, text in enumerate((
        "https://api.mch.weixin.qq.com", "https://openapi.alipay.com/gateway.do",
        "http://127.0.0.1:8080/v1", "http://localhost/", "http://[::1]:80/a", "http://example.com",
        "https://user:password@host/", "https://host/?q", "https://host#f", "HTTPS://HOST",
        "https:///host", "http://127.0.0.1%2f@evil.example/", "http://127.1/", "http://0x7f.1/",
        "http://127.0.0.1\\@evil.example", "ftp://host", "http://[::ffff:127.0.0.1]/",
        "http://2130706433/", "http://127.0.0.1.evil.example/", "https://h:99999/",
        "https://bücher.example", "http://localhost.:80/", "https://a\\b/", "http://[0:0:0:0:0:0:0:1]/",
    )):
        yield str(i), text.encode()


def unarmoured(pem: str) -> list[bytes]:
    blocks = re.findall("-----BEGIN [^-]*-----([^-]*)-----END", pem)
    return [base64.b64decode(block) for block in blocks]


def pems(names: tuple[str, ...]) -> Iterator[Seed]:
    """Each file as it is, and the DER in it."""
    for name in names:
        text = (VECTORS / name).read_text("ascii")
        stem = Path(name).stem
        yield stem, text.encode()
        for i, der in enumerate(unarmoured(text)):
            yield f"{stem}_der_{i}", der


def keys() -> Iterator[Seed]:
    yield from pems((
        "wechat/merchant_private_key_pkcs1.pem", "wechat/merchant_private_key_pkcs8.pem",
        "wechat/merchant_public_key.pem", "wechat/merchant_cert.pem",
        "alipay/app_private_key_pkcs8_bare.txt", "alipay/alipay_public_key_bare.txt",
    ))
    yield "encrypted", b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----"


def certificates() -> Iterator[Seed]:
    yield from pems((
        "alipay/alipay_cert.pem", "alipay/app_cert.pem", "alipay/rogue_alipay_cert.pem",
        "alipay/alipay_root_cert.pem", "wechat/platform_cert.pem",
    ))
    pem = (VECTORS / "alipay/alipay_cert.pem").read_bytes()
    yield "twice", b"issued to: somebody\n" + pem + b"\n" + pem
    yield "cut_end", pem[:-30]
    yield "cut_begin", pem[30:]
    yield "key_within", pem + (VECTORS / "wechat/merchant_public_key.pem").read_bytes()


def base64_texts() -> Iterator[Seed]:
    for i, text in enumerate(("", "YQ==", "YWI=", "YWJj", "YR==", "YWK=", "YQ=", "Y Q=", "YQ==\n",
                              "-_8=", "////", "====", "YQ==YQ==")):
        yield str(i), text.encode()


SEEDS = {
    "answer_http": answers_of_http, "answer_wechat": answers_of_wechat,
    "answer_alipay": answers_of_alipay, "answer_stripe": answers_of_stripe,
    "notice_http": notices_of_http, "notice_wechat": notices_of_wechat,
    "notice_alipay": notices_of_alipay, "notice_stripe": notices_of_stripe,
    "form": forms, "json": json_texts, "signed_node": json_texts, "text": texts, "yuan": amounts,
    "url": urls, "keys": keys, "certificates": certificates, "base64": base64_texts,
}


def nested(target: str) -> Iterator[Seed]:
    """Whatever follows the nesting by recursion runs out of stack."""
    if target.startswith("answer_"):
        for status in (200, 404):
            yield f"nested_{status}", f"{status} query {NOW} 30000\n\n{{}}".encode()
    elif target.startswith("notice_"):
        yield "nested", f"{NOW} 30000\n\n{{}}".encode()


def main() -> None:
    for target, seeds in SEEDS.items():
        folder = FUZZ / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("seed_*"):
            old.unlink()
        for name, content in chain(seeds(), nested(target)):
            (folder / f"seed_{name}").write_bytes(content)


if __name__ == "__main__":
    main()
