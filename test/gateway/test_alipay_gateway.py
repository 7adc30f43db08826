#!/usr/bin/env python3
"""Tests the Alipay stand-in: its verification against the test vectors, then over sockets."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import typing
import unittest
from datetime import datetime, timedelta
from urllib.parse import urlencode

import alipay_protocol
from alipay_protocol import QUERY_METHOD, REFUND_METHOD
from gateway_test_case import GatewayTest
from http_server import Request
from ledger import Ledger, Policy
from protocol import Call
from provider_clients import ALIPAY_KEYS, AlipayClient
from rsa_keys import Key

Fields = dict[str, typing.Any]
TRADE_NO = "2026011522001400000000000001"


def vectors(name: str) -> typing.Any:
    with open(os.path.join(ALIPAY_KEYS, f"{name}.json"), encoding="utf-8") as file:
        return json.load(file)["vectors"]


class VectorsTest(unittest.TestCase):
    """What others computed, with OpenSSL and the official SDK."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory(prefix="stand_in_gateway.")
        self.addCleanup(directory.cleanup)
        path = os.path.join(directory.name, "ledger")
        self.ledger = Ledger(path, "alipay", Policy(True), alipay_protocol.DIALECT)
        self.addCleanup(self.ledger.close)
        self.ledger.add_payment("P20260115000001", 9999, "CNY", TRADE_NO)
        self.keys = alipay_protocol.Keys(ALIPAY_KEYS)

    def read(self, vector: Fields, query: str, body: str, mode: bool, late_s: int = 0) -> Call:
        protocol = alipay_protocol.AlipayProtocol(self.keys, mode, self.ledger)
        at = datetime(2026, 1, 15, 10, 20, 30, tzinfo=alipay_protocol.BEIJING)
        headers = {"content-type": "application/x-www-form-urlencoded;charset=utf-8"}
        target = "/gateway.do" + (f"?{query}" if query else "")
        return protocol.read(
            Request(
                "POST",
                target,
                ("gateway.do",),
                query,
                headers,
                body.encode(),
                True,
                at.timestamp() + late_s,
            )
        )

    def test_requests_are_accepted(self) -> None:
        for vector in vectors("sign_requests"):
            with self.subTest(vector["name"]):
                fields = vector["params_before_signing"]
                text = alipay_protocol.canonical(fields)
                self.assertEqual(vector["canonical"].encode(), text)
                self.assertTrue(self.keys.app.has_signed(text, vector["sign"]))
                self.assertFalse(self.keys.app.has_signed(text + b"x", vector["sign"]))
                if fields["method"] not in alipay_protocol.KINDS:
                    continue
                mode, wire = "app_cert_sn" in fields, vector["wire"]
                for query, body in (
                    ("", wire["single_body"]),
                    (wire["url_query"], wire["body_when_query_is_used"]),
                ):
                    call = self.read(vector, query, body, mode)
                    self.assertIsNone(call.refusal, call.refusal and call.refusal.body)

    def test_tampered_requests_are_refused(self) -> None:
        vector = vectors("sign_requests")[0]
        body = vector["wire"]["single_body"]
        cases = {
            "signature_failures": (body.replace("12.99", "12.98"), 0),
            "stale_timestamps": (body, 601),
            "bad_requests": (f"{body}&version=1.0", 0),
            "identity_failures": (body.replace("2021000000000001", "2021000000000002"), 0),
        }
        for counter, (tampered, late_s) in cases.items():
            with self.subTest(counter):
                call = self.read(vector, "", tampered, False, late_s)
                assert call.refusal is not None
                self.assertEqual(counter, call.refusal_counter)
                answer = json.loads(call.refusal.body)
                self.assertEqual({"error_response"}, answer.keys())
                self.assertEqual("40002", answer["error_response"]["code"])
        self.assertEqual("identity_failures", self.read(vector, "", body, True).refusal_counter)

    def test_answers_and_notifications_are_signed_as_the_vectors(self) -> None:
        checked = 0
        for vector in vectors("verify_responses"):
            if vector["expect"] == "ok":
                sign = json.loads(vector["raw"])["sign"]
                self.assertEqual(sign, self.keys.own.sign(vector["signed_text"].encode()))
                checked += 1
        for vector in vectors("verify_notifications"):
            decoded = vector.get("decoded") or {}
            is_usual = "msg_method" not in decoded
            if vector["expect"].get("verify") == "ok" and is_usual and "" not in decoded.values():
                text = alipay_protocol.canonical(decoded, "sign", "sign_type")
                self.assertEqual(vector["canonical"].encode(), text, vector["name"])
                self.assertEqual(decoded["sign"], self.keys.own.sign(text), vector["name"])
                checked += 1
        self.assertGreater(checked, 15)


class AlipayTest(GatewayTest):
    options: tuple[str, ...] = ("--protocol", "alipay")

    def setUp(self) -> None:
        super().setUp()
        self.use(self.gateway)
        self.payment_id = f"p{secrets.token_hex(6)}"
        self.refund_no = f"{self.payment_id}-R1"
        self.pay(self.payment_id)
        self.addCleanup(self.gateway.admin, "mode", {"mode": "immediate"})

    def use(self, gateway: typing.Any) -> None:
        self.gateway = gateway
        self.client = AlipayClient(gateway)

    def pay(self, payment_id: str, **more: typing.Any) -> None:
        payment = {"payment_id": payment_id, "amount": 3200, "currency": "CNY", **more}
        self.gateway.admin("payments", payment)

    def counter(self, name: str) -> int:
        return int(self.gateway.summary()["counters"].get(name, 0))

    def assert_sub_code(self, sub_code: str, node: Fields) -> None:
        self.assertEqual(sub_code, node.get("sub_code"), node)


class RefundTest(AlipayTest):
    def test_refund_is_paid_once_however_often_it_is_sent(self) -> None:
        before = self.gateway.summary()["refused_requests"]
        answers = [self.client.refund(self.refund_no) for _ in range(3)]
        self.assertEqual(["Y", "N", "N"], [answer["fund_change"] for answer in answers])
        for answer in answers:
            self.assertEqual(("10000", "32.00"), (answer["code"], answer["refund_fee"]))
        query = self.client.query(self.refund_no, query_options=["gmt_refund_pay"])
        self.assertEqual("REFUND_SUCCESS", query["refund_status"])
        self.assertEqual(("32.00", "32.00"), (query["refund_amount"], query["total_amount"]))
        self.assertIn("gmt_refund_pay", query)
        self.assert_paid_once(self.refund_no)
        self.assertEqual(before, self.gateway.summary()["refused_requests"])

    def test_running_total_and_other_refusals(self) -> None:
        self.use(self.start("--protocol", "alipay", "--order-spacing-ms", "0"))
        self.pay("parts")
        fees = [
            self.client.refund(f"parts-R{n}", refund_amount="10.00")["refund_fee"] for n in range(3)
        ]
        self.assertEqual(["10.00", "20.00", "30.00"], fees)
        node = self.client.refund("parts-R1", refund_amount="10.01")
        self.assert_sub_code("ACQ.DISCORDANT_REPEAT_REQUEST", node)
        node = self.client.refund("parts-R9", refund_amount="2.01")
        self.assert_sub_code("ACQ.REASON_TRADE_REFUND_FEE_ERR", node)
        self.client.refund("parts-R9", refund_amount="2.00")
        node = self.client.refund("parts-R10", refund_amount="0.01")
        self.assert_sub_code("ACQ.TRADE_HAS_CLOSE", node)
        self.assertEqual("40004", node["code"])
        self.assert_sub_code("ACQ.TRADE_NOT_EXIST", self.client.refund("nobody-R1"))
        self.assert_sub_code("ACQ.TRADE_NOT_EXIST", self.client.query("nobody-R1"))
        self.pay("old001", paid_at=1_000_000_000)
        self.assert_sub_code("ACQ.TRADE_HAS_FINISHED", self.client.refund("old001-R1"))

    def test_too_soon_after_another_refund(self) -> None:
        self.client.refund(self.refund_no, refund_amount="1.00")
        node = self.client.refund(f"{self.payment_id}-R2", refund_amount="1.00")
        self.assertEqual("40005", node["code"])
        self.assertGreater(self.counter("spacing_refused"), 0)

    def test_by_the_merchants_number(self) -> None:
        changes = {"trade_no": None, "out_trade_no": self.payment_id}
        self.assertEqual("Y", self.client.refund(self.refund_no, **changes)["fund_change"])
        self.assert_paid_once(self.refund_no)

    def test_the_query_is_silent_about_what_is_not_refunded(self) -> None:
        empty = {"code": "10000", "msg": "Success"}
        self.assertEqual(empty, self.client.query(self.refund_no))
        self.gateway.admin("mode", {"mode": "processing"})
        self.assertEqual("N", self.client.refund(self.refund_no)["fund_change"])
        self.assertEqual(empty, self.client.query(self.refund_no))
        self.gateway.admin("settle", {"refund_no": self.refund_no, "state": "failed"})
        self.assertEqual(empty, self.client.query(self.refund_no))
        # What failed may be tried again under its number.
        self.gateway.admin("mode", {"mode": "immediate"})
        self.assertEqual("Y", self.client.refund(self.refund_no)["fund_change"])
        self.assert_paid_once(self.refund_no)

    def test_query_under_another_trade(self) -> None:
        self.client.refund(self.refund_no)
        self.pay("other")
        trade_no = alipay_protocol.DIALECT.transaction_id("other")
        node = self.client.query(self.refund_no, trade_no=trade_no)
        self.assertNotIn("refund_status", node)

    def test_a_number_that_was_forgotten_pays_twice(self) -> None:
        self.use(self.start("--protocol", "alipay", "--idempotency-horizon-ms", "0"))
        self.pay("forgot")
        for _ in range(2):
            self.client.refund("forgot-R1", refund_amount="16.00")
        self.assertEqual(["forgot-R1"], self.gateway.summary()["duplicate_refund_nos"])


class StrictTest(AlipayTest):
    def test_parameters(self) -> None:
        now = datetime.now(alipay_protocol.BEIJING)
        stale = (now - timedelta(seconds=610)).strftime("%Y-%m-%d %H:%M:%S")
        utc = (now - timedelta(hours=8)).strftime("%Y-%m-%d %H:%M:%S")
        cases: list[tuple[dict[str, str | None], str, str]] = [
            ({"app_id": None}, "isv.missing-app-id", "bad_requests"),
            ({"app_id": "1"}, "isv.invalid-app-id", "identity_failures"),
            ({"charset": "gbk"}, "isv.invalid-charset", "bad_requests"),
            ({"format": "xml"}, "isv.invalid-format", "bad_requests"),
            ({"version": "2.0"}, "isv.invalid-version", "bad_requests"),
            ({"sign_type": "RSA"}, "isv.invalid-signature-type", "bad_requests"),
            ({"timestamp": stale}, "isv.invalid-timestamp", "stale_timestamps"),
            ({"timestamp": utc}, "isv.invalid-timestamp", "stale_timestamps"),
            ({"timestamp": "now"}, "isv.invalid-timestamp", "stale_timestamps"),
            ({"sign": "AAAA"}, "isv.invalid-signature", "signature_failures"),
            ({"notify_url": "https://x/"}, "isv.invalid-parameter", "bad_requests"),
            ({"notify_url": ""}, "isv.invalid-parameter", "bad_requests"),
            ({"app_cert_sn": "1"}, "isv.invalid-parameter", "bad_requests"),
            ({"extra": "1"}, "isv.invalid-parameter", "bad_requests"),
        ]
        for changes, sub_code, counter in cases:
            with self.subTest(changes):
                before = self.counter(counter)
                sent = self.client.parameters(QUERY_METHOD, {"out_request_no": "x"}, **changes)
                status, _, body = self.client.send(sent)
                answer = json.loads(body)
                self.assertEqual((200, {"error_response"}), (status, answer.keys()))
                self.assert_sub_code(sub_code, answer["error_response"])
                self.assertEqual(before + 1, self.counter(counter))
        self.assert_sub_code("isv.invalid-method", self.client.call("alipay.trade.pay", {}))

    def test_biz_content(self) -> None:
        wrong: list[Fields] = [
            {"refund_amount": 32.0},
            {"refund_amount": "32"},
            {"refund_amount": "32.0"},
            {"refund_amount": "0.00"},
            {"refund_amount": "032.00"},
            {"refund_amount": None},
            {"out_request_no": "a|b"},
            {"out_request_no": "x" * 65},
            {"refund_reason": "x" * 257},
            {"trade_no": "1"},
            {"trade_no": None},
            {"query_options": ["gmt_refund_pay"]},
            {"notify_url": "https://x/"},
            {"refund_currency": "CNY"},
        ]
        for changes in wrong:
            with self.subTest(changes):
                node = self.client.refund(self.refund_no, **changes)
                self.assert_sub_code("ACQ.INVALID_PARAMETER", node)
        self.assert_sub_code("ACQ.INVALID_PARAMETER", self.client.call(REFUND_METHOD, {}))
        self.assertFalse(self.gateway.knows(self.refund_no))

    def test_transport(self) -> None:
        parameters = self.client.parameters(QUERY_METHOD, {"out_request_no": "x"})
        body = urlencode(parameters).encode()
        form = "application/x-www-form-urlencoded"
        for path, method, content_type, status in (
            ("/gateway.do", "GET", form, 404),
            ("/other.do", "POST", form, 404),
            ("/gateway.do", "POST", "application/json", 200),
            ("/gateway.do", "POST", form, 200),  # the charset is known too late
        ):
            headers = {"Content-Type": content_type}
            answer = self.gateway.call(method, path, body, headers)
            self.assertEqual(status, answer[0])
            self.assertNotIn(b'"10000"', answer[2])


class SignatureTest(AlipayTest):
    def send(self) -> bytes:
        biz = {
            "trade_no": alipay_protocol.DIALECT.transaction_id(self.payment_id),
            "refund_amount": "32.00",
            "out_request_no": self.refund_no,
        }
        return self.client.send(self.client.parameters(REFUND_METHOD, biz))[2]

    @staticmethod
    def signed_node(body: bytes) -> bytes:
        """The text between the member's name and the next member."""
        return body[body.index(b":") + 1 : body.index(b"}") + 1]

    def assert_signed(self, body: bytes, by: str) -> None:
        key = Key(ALIPAY_KEYS, by)
        self.assertTrue(key.has_signed(self.signed_node(body), json.loads(body)["sign"]))

    def test_business_errors_and_successes_are_signed(self) -> None:
        self.assert_signed(self.send(), "alipay_public_key.pem")
        self.payment_id = "nobody"
        body = self.send()
        self.assert_signed(body, "alipay_public_key.pem")
        self.assertEqual("40004", json.loads(body)["alipay_trade_refund_response"]["code"])

    def test_wrong_signatures(self) -> None:
        self.gateway.faults({"fault": "bad_signature", "how": "none"})
        self.assertEqual({"alipay_trade_refund_response"}, json.loads(self.send()).keys())
        self.gateway.faults({"fault": "bad_signature", "how": "stranger"})
        self.assert_signed(self.send(), "stranger_public_key.pem")
        self.gateway.faults({"fault": "bad_signature", "how": "wrong_node"})
        body = self.send()
        self.assert_signed(body, "alipay_public_key.pem")
        self.assertEqual({"alipay_trade_query_response", "sign"}, json.loads(body).keys())
        unknown = [{"fault": "bad_signature", "how": "unknown_serial"}]
        self.assertEqual(400, self.gateway.json("POST", "/admin/faults", unknown)[0])
        self.assert_paid_once(self.refund_no)

    def test_certificate_mode(self) -> None:
        self.use(self.start("--protocol", "alipay", "--certificate-mode"))
        self.pay(self.payment_id)
        keys = self.client.keys
        numbers: dict[str, str | None] = {
            "app_cert_sn": keys.app_cert_sn,
            "alipay_root_cert_sn": keys.root_cert_sn,
        }
        biz = {
            "trade_no": alipay_protocol.DIALECT.transaction_id(self.payment_id),
            "refund_amount": "32.00",
            "out_request_no": self.refund_no,
        }
        parameters = self.client.parameters(REFUND_METHOD, biz, **numbers)
        body = self.client.send(parameters)[2]
        self.assert_signed(body, "alipay_cert.pem")
        self.assertEqual(keys.alipay_cert_sn, json.loads(body)["alipay_cert_sn"])
        self.assert_sub_code("isv.invalid-app-cert-sn", self.client.call(REFUND_METHOD, biz))
        self.gateway.faults({"fault": "bad_signature", "how": "unknown_serial"})
        body = self.client.send(parameters)[2]
        self.assertNotEqual(keys.alipay_cert_sn, json.loads(body)["alipay_cert_sn"])


class FaultsTest(AlipayTest):
    def test_unknown_outcome(self) -> None:
        for acted in (False, True):
            self.gateway.faults({"fault": "provider_error", "code": "20000", "acted": acted})
            node = self.client.refund(self.refund_no)
            self.assertEqual("20000", node["code"])
            self.assert_sub_code("aop.ACQ.SYSTEM_ERROR", node)
            self.assertEqual(acted, self.gateway.knows(self.refund_no))
        self.gateway.faults()
        self.assertEqual("N", self.client.refund(self.refund_no)["fund_change"])
        self.assert_paid_once(self.refund_no)

    def test_any_sub_code(self) -> None:
        rule = {"fault": "provider_error", "code": "ACQ.SELLER_BALANCE_NOT_ENOUGH"}
        self.gateway.faults(rule)
        node = self.client.refund(self.refund_no)
        self.assertEqual("40004", node["code"])
        self.assert_sub_code("ACQ.SELLER_BALANCE_NOT_ENOUGH", node)
        self.gateway.faults(
            {"fault": "provider_error", "code": "40006", "sub_code": "isv.x", "signature": "none"}
        )
        parameters = self.client.parameters(REFUND_METHOD, {**self.biz()})
        answer = json.loads(self.client.send(parameters)[2])
        self.assertEqual({"error_response"}, answer.keys())
        self.assert_sub_code("isv.x", answer["error_response"])

    def biz(self) -> Fields:
        return {
            "trade_no": alipay_protocol.DIALECT.transaction_id(self.payment_id),
            "refund_amount": "32.00",
            "out_request_no": self.refund_no,
        }

    def test_fund_change_n_after_acting(self) -> None:
        self.gateway.faults({"fault": "wrong_status_word", "word": "N"})
        self.assertEqual("N", self.client.refund(self.refund_no)["fund_change"])
        self.assert_paid_once(self.refund_no)

    def test_transport_errors_are_pages(self) -> None:
        self.gateway.faults({"fault": "503"})
        status, headers, body = self.client.send(self.client.parameters(REFUND_METHOD, self.biz()))
        self.assertEqual((503, "text/html"), (status, headers["Content-Type"]))
        self.assertNotIn(b"{", body)

    def test_forget_and_failed(self) -> None:
        self.client.refund(self.refund_no)
        self.gateway.faults({"fault": "forget"})
        self.assertNotIn("refund_status", self.client.query(self.refund_no))
        self.pay("failing")
        self.gateway.faults({"fault": "failed", "count": 1})
        self.assertEqual("N", self.client.refund("failing-R1")["fund_change"])
        self.assertNotIn("refund_status", self.client.query("failing-R1"))


if __name__ == "__main__":
    unittest.main()
