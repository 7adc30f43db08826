#!/usr/bin/env python3
"""Tests the WeChat Pay stand-in: its verification against the test vectors, then over sockets."""

from __future__ import annotations

import json
import os
import secrets
import signal
import tempfile
import time
import typing
import unittest

import wechat_protocol
from gateway_test_case import GatewayTest
from http_server import Request
from ledger import Ledger, Policy
from protocol import Call
from provider_clients import WECHAT_KEYS, WechatClient
from rsa_keys import Key, open_gcm, seal_gcm

Fields = dict[str, typing.Any]


def vectors(name: str) -> typing.Any:
    with open(os.path.join(WECHAT_KEYS, f"{name}.json"), encoding="utf-8") as file:
        return json.load(file)["vectors"]


class VectorsTest(unittest.TestCase):
    """What others computed, with OpenSSL and the official SDK."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory(prefix="stand_in_gateway.")
        self.addCleanup(directory.cleanup)
        path = os.path.join(directory.name, "ledger")
        ledger = Ledger(path, "wechat", Policy(True), wechat_protocol.DIALECT)
        self.addCleanup(ledger.close)
        ledger.add_payment("P20260115000001", 9999, "CNY", "4200002026011500000000000001")
        self.keys = wechat_protocol.Keys(WECHAT_KEYS)
        self.protocol = wechat_protocol.WechatProtocol(self.keys, "public_key", ledger)

    def read(self, vector: Fields, **changes: typing.Any) -> Call:
        target, body = vector["path_and_query"], vector["body"].encode()
        path = target.partition("?")[0].replace("%7C", "|").replace("%2A", "*").replace("%40", "@")
        headers = {
            "accept": "application/json",
            "user-agent": "x",
            "content-type": "application/json",
            "authorization": vector["authorization"],
        }
        values: Fields = {
            "method": vector["method"],
            "target": target,
            "segments": tuple(path[1:].split("/")),
            "query": target.partition("?")[2],
            "headers": headers,
            "body": body,
            "keep_alive": True,
            "arrived_at": vector["timestamp"],
        }
        values.update(changes)
        return self.protocol.read(Request(**values))

    def test_requests_are_accepted(self) -> None:
        for vector in vectors("sign_requests"):
            with self.subTest(vector["name"]):
                self.assert_signed(vector)
                if vector["name"].startswith("refund_"):
                    call = self.read(vector)
                    self.assertIsNone(call.refusal, call.refusal and call.refusal.body)

    def assert_signed(self, vector: Fields) -> None:
        given = wechat_protocol.authorization_attributes(vector["authorization"])
        text = wechat_protocol.signed_request(
            vector["method"],
            vector["path_and_query"],
            given["timestamp"],
            given["nonce_str"],
            vector["body"].encode(),
        )
        self.assertEqual(vector["canonical"].encode(), text)
        self.assertTrue(self.keys.merchant.has_signed(text, given["signature"]))
        self.assertFalse(self.keys.merchant.has_signed(text + b" ", given["signature"]))
        self.assertFalse(self.keys.merchant.has_signed(text, given["signature"][:-4]))

    def test_tampered_requests_are_refused(self) -> None:
        create, query = vectors("sign_requests")[:2]
        changes: dict[str, tuple[Fields, Fields]] = {
            "signature_failures body": (create, {"body": create["body"].encode() + b" "}),
            "signature_failures path": (query, {"target": query["path_and_query"] + "?"}),
            "signature_failures method": (create, {"method": "POST", "target": "/"}),
            "stale_timestamps late": (create, {"arrived_at": create["timestamp"] + 301}),
            "stale_timestamps early": (create, {"arrived_at": create["timestamp"] - 301}),
        }
        for name, (vector, change) in changes.items():
            with self.subTest(name):
                call = self.read(vector, **change)
                assert call.refusal is not None
                self.assertEqual(401, call.refusal.status)
                self.assertEqual(name.split(" ")[0], call.refusal_counter)
                self.assertNotIn("Wechatpay-Signature", call.refusal.headers)
        # At the edge it is good, once.
        self.assertIsNone(self.read(create, arrived_at=create["timestamp"] + 300).refusal)
        self.assertEqual("reused_nonces", self.read(create).refusal_counter)

    def test_answers_are_signed_as_the_vectors(self) -> None:
        for vector in vectors("verify_responses"):
            if vector["expect"] != "ok":
                continue
            with self.subTest(vector["name"]):
                headers = {name.lower(): value for name, value in vector["headers"].items()}
                timestamp, nonce = headers["wechatpay-timestamp"], headers["wechatpay-nonce"]
                text = wechat_protocol.signed_answer(timestamp, nonce, vector["body"].encode())
                key = self.keys.own[headers["wechatpay-serial"]]
                self.assertEqual(headers["wechatpay-signature"], key.sign(text))

    def test_encryption(self) -> None:
        for vector in vectors("aes_gcm"):
            nonce, data = vector["nonce_ascii"].encode(), vector["associated_data"].encode()
            sealed = vector["ciphertext_base64"]
            plaintext = vector["plaintext"].encode()
            self.assertEqual(sealed, seal_gcm(self.keys.api_v3_key, nonce, data, plaintext))
            self.assertEqual(plaintext, open_gcm(self.keys.api_v3_key, nonce, data, sealed))
            with self.assertRaises(ValueError):
                open_gcm(self.keys.api_v3_key, nonce, data + b"x", sealed)


class WechatTest(GatewayTest):
    options = ("--protocol", "wechat", "--mode", "immediate")

    def setUp(self) -> None:
        super().setUp()
        self.use(self.gateway)
        self.payment_id = f"p{secrets.token_hex(6)}"
        self.refund_no = f"{self.payment_id}-R1"
        self.pay(self.payment_id)
        self.addCleanup(self.gateway.admin, "mode", {"mode": "immediate"})

    def use(self, gateway: typing.Any) -> None:
        self.gateway = gateway
        self.client = WechatClient(gateway)

    def pay(self, payment_id: str, **more: typing.Any) -> None:
        payment = {"payment_id": payment_id, "amount": 3200, "currency": "CNY", **more}
        self.gateway.admin("payments", payment)

    def refused(self) -> int:
        return int(self.gateway.summary()["refused_requests"])

    def counter(self, name: str) -> int:
        return int(self.gateway.summary()["counters"].get(name, 0))

    def assert_signed(self, headers: typing.Any, body: bytes, by: str) -> None:
        text = wechat_protocol.signed_answer(
            headers["Wechatpay-Timestamp"], headers["Wechatpay-Nonce"], body
        )
        self.assertTrue(Key(WECHAT_KEYS, by).has_signed(text, headers["Wechatpay-Signature"]))
        self.assertLess(abs(time.time() - int(headers["Wechatpay-Timestamp"])), 60)


class RefundTest(WechatTest):
    def test_refund_is_paid_once_however_often_it_is_sent(self) -> None:
        before = self.refused()
        answers = [self.client.refund(self.refund_no) for _ in range(3)]
        self.assertEqual([answers[0]] * 3, answers)
        status, refund = answers[0]
        self.assertEqual((200, "SUCCESS"), (status, refund["status"]))
        self.assertEqual(self.payment_id, refund["out_trade_no"])
        self.assertRegex(refund["transaction_id"], r"^42[0-9]{26}$")
        self.assertRegex(refund["success_time"], r"\+08:00$")
        self.assertEqual((3200, 3200), (refund["amount"]["refund"], refund["amount"]["total"]))
        self.assertEqual(answers[0], self.client.query(self.refund_no))
        self.assert_paid_once(self.refund_no)
        self.assertEqual(before, self.refused())

    def test_by_the_merchants_number(self) -> None:
        changes = {"transaction_id": None, "out_trade_no": self.payment_id}
        self.assertEqual(200, self.client.refund(self.refund_no, **changes)[0])
        self.assert_paid_once(self.refund_no)

    def test_percent_encoded_query(self) -> None:
        refund_no = "x|y*z@1-R1"
        self.pay("x|y*z@1")
        self.client.refund(refund_no)
        self.assertEqual(200, self.client.query(refund_no)[0])

    def test_same_number_with_other_amounts(self) -> None:
        self.client.refund(self.refund_no)
        other = {"refund": 3100, "total": 3200, "currency": "CNY"}
        status, answer = self.client.refund(self.refund_no, amount=other)
        self.assertEqual((400, "INVALID_REQUEST"), (status, answer["code"]))
        other = {"refund": 3200, "total": 3300, "currency": "CNY"}
        self.assertEqual(400, self.client.refund(self.refund_no, amount=other)[0])
        self.assert_paid_once(self.refund_no)

    def test_more_than_is_left_too_soon_too_old_and_unknown(self) -> None:
        half = {"refund": 1600, "total": 3200, "currency": "CNY"}
        self.assertEqual(200, self.client.refund(self.refund_no, amount=half)[0])
        status, answer = self.client.refund(f"{self.payment_id}-R2", amount=half)
        self.assertEqual((429, "FREQUENCY_LIMITED"), (status, answer["code"]))
        status, answer = self.client.refund(f"{self.payment_id}-R3")
        self.assertEqual((400, "INVALID_REQUEST"), (status, answer["code"]))
        total = {"refund": 1600, "total": 1600, "currency": "CNY"}
        status, answer = self.client.refund(f"{self.payment_id}-R4", amount=total)
        self.assertEqual((400, "INVALID_REQUEST"), (status, answer["code"]))
        self.pay("old001", paid_at=time.time() - 366 * 86400)
        self.assertEqual(400, self.client.refund("old001-R1")[0])
        status, answer = self.client.refund("nobody-R1")
        self.assertEqual((404, "RESOURCE_NOT_EXISTS"), (status, answer["code"]))
        self.assertEqual((404, answer["code"]), (self.client.query("nobody-R1")[0], answer["code"]))
        for name in ("spacing_refused", "over_refund_refused", "total_mismatch_refused"):
            self.assertGreater(self.counter(name), 0, name)

    def test_spacing_can_be_shortened(self) -> None:
        self.use(self.start("--protocol", "wechat", "--order-spacing-ms", "0"))
        self.pay("several")
        part = {"refund": 64, "total": 3200, "currency": "CNY"}
        statuses = [self.client.refund(f"several-R{n}", amount=part)[0] for n in range(51)]
        self.assertEqual([200] * 50 + [400], statuses)

    def test_states(self) -> None:
        self.gateway.admin("mode", {"mode": "processing", "after_queries": 1})
        self.assertEqual("PROCESSING", self.client.refund(self.refund_no)[1]["status"])
        words = [self.client.query(self.refund_no)[1]["status"] for _ in range(2)]
        self.assertEqual(["PROCESSING", "SUCCESS"], words)
        for word, state, count in (("ABNORMAL", "processing", 0), ("CLOSED", "failed", 0)):
            row = self.gateway.admin("settle", {"refund_no": self.refund_no, "state": word})
            self.assertEqual((state, count), (row["state"], row["paid_out_count"]))
            self.assertEqual(word, self.client.query(self.refund_no)[1]["status"])
            self.assertEqual(word, self.client.refund(self.refund_no)[1]["status"])

    def test_parked_money_is_not_free(self) -> None:
        outcome = {"mode": "processing", "after_queries": 0, "outcome": "ABNORMAL"}
        gateway = self.start("--protocol", "wechat", "--order-spacing-ms", "0")
        self.use(gateway)
        gateway.admin("mode", outcome)
        self.pay("parked")
        self.client.refund("parked-R1")
        self.assertEqual("ABNORMAL", self.client.query("parked-R1")[1]["status"])
        self.assertEqual(400, self.client.refund("parked-R2")[0])
        gateway.admin("settle", {"refund_no": "parked-R1", "state": "CLOSED"})
        self.assertEqual(200, self.client.refund("parked-R2")[0])

    def test_default_mode_succeeds_at_the_first_query(self) -> None:
        self.use(self.start("--protocol", "wechat"))
        self.pay("default")
        self.assertEqual("PROCESSING", self.client.refund("default-R1")[1]["status"])
        self.assertEqual("SUCCESS", self.client.query("default-R1")[1]["status"])


class StrictTest(WechatTest):
    def test_headers_and_attributes(self) -> None:
        stale = str(int(time.time()) - 310)
        cases: list[tuple[dict[str, str | None], int, str]] = [
            ({"User-Agent": ""}, 400, "bad_requests"),
            ({"Accept": None}, 400, "bad_requests"),
            ({"Accept": "*/*"}, 400, "bad_requests"),
            ({"Content-Type": "text/plain"}, 400, "bad_requests"),
            ({"Authorization": None}, 401, "signature_failures"),
            ({"Authorization": "Bearer x"}, 401, "signature_failures"),
            ({"signature": "AAAA"}, 401, "signature_failures"),
            ({"signature": None}, 401, "signature_failures"),
            ({"mchid": "1900000002"}, 404, "identity_failures"),
            ({"serial_no": "00"}, 401, "identity_failures"),
            ({"timestamp": stale}, 401, "stale_timestamps"),
            ({"nonce_str": "x" * 33}, 401, "bad_nonces"),
            ({"nonce_str": "x-y"}, 401, "bad_nonces"),
            ({"Wechatpay-Serial": "PUB_KEY_ID_1"}, 400, "identity_failures"),
        ]
        body = json.dumps(self.client.demand(self.refund_no)).encode()
        for changes, status, counter in cases:
            with self.subTest(changes):
                before = self.counter(counter)
                answer = self.client.send("POST", self.client.path, body, **changes)
                self.assertEqual(status, answer[0], answer[2])
                self.assertEqual(before + 1, self.counter(counter))
                self.assertEqual(status != 401, "Wechatpay-Signature" in answer[1])
        self.assertFalse(self.gateway.knows(self.refund_no))

    def test_nonces_are_never_reused(self) -> None:
        target, nonce = f"{self.client.path}/nobody-R1", f"once{self.payment_id}"
        self.assertEqual(404, self.client.send("GET", target, nonce_str=nonce)[0])
        self.assertEqual(401, self.client.send("GET", target, nonce_str=nonce)[0])
        self.assertEqual(1, self.counter("reused_nonces"))

    def test_body(self) -> None:
        amount = {"refund": 3200, "total": 3200, "currency": "CNY"}
        wrong: list[Fields] = [
            {"transaction_id": None},
            {"out_trade_no": self.payment_id},
            {"transaction_id": "T-1"},
            {"transaction_id": None, "out_trade_no": "short"},
            {"transaction_id": None, "out_trade_no": "x" * 33},
            {"out_refund_no": "a b"},
            {"out_refund_no": "x" * 65},
            {"reason": ""},
            {"reason": "退" * 27},
            {"notify_url": "http://pay.example.com/"},
            {"notify_url": "https://pay.example.com/?a=1"},
            {"notify_url": "https://" + "x" * 256},
            {"funds_account": "OTHER"},
            {"order_id": "1"},
            {"amount": None},
            {"amount": {**amount, "refund": 0}},
            {"amount": {**amount, "refund": "3200"}},
            {"amount": {**amount, "currency": "USD"}},
            {"amount": {**amount, "extra": 1}},
            {"amount": {"refund": 3200, "total": 3200}},
        ]
        for changes in wrong:
            with self.subTest(changes):
                status, answer = self.client.refund(self.refund_no, **changes)
                self.assertEqual((400, "PARAM_ERROR"), (status, answer["code"]))
        self.assertFalse(self.gateway.knows(self.refund_no))
        good = {"reason": "退" * 26, "notify_url": "https://pay.example.com/refunds"}
        self.assertEqual(200, self.client.refund(self.refund_no, **good)[0])

    def test_other_paths_are_counted(self) -> None:
        before = self.counter("bad_requests")
        self.assertEqual(404, self.client.send("GET", "/v3/refunds")[0])
        self.assertEqual(405, self.client.send("GET", self.client.path)[0])
        self.assertEqual(400, self.client.send("GET", f"{self.client.path}/a-R1?x=1")[0])
        self.assertEqual(before + 3, self.counter("bad_requests"))


class SignatureTest(WechatTest):
    def test_which_key_signs(self) -> None:
        keys = self.client.keys
        for serial, name in (
            (keys.public_key_id, "wechatpay_public_key.pem"),
            (keys.certificate_serial, "platform_cert.pem"),
        ):
            changes: dict[str, typing.Any] = {"Wechatpay-Serial": serial}
            target = f"{self.client.path}/nobody-R1"
            _, headers, body = self.client.send("GET", target, **changes)
            self.assertEqual(serial, headers["Wechatpay-Serial"])
            self.assert_signed(headers, body, name)
        self.use(self.start("--protocol", "wechat", "--answer-key", "certificate"))
        _, headers, body = self.client.send("GET", target)
        self.assert_signed(headers, body, "platform_cert.pem")

    def test_wrong_signatures(self) -> None:
        body = json.dumps(self.client.demand(self.refund_no)).encode()
        for how in wechat_protocol.WechatProtocol.answer_signatures:
            with self.subTest(how):
                self.gateway.faults({"fault": "bad_signature", "how": how})
                status, headers, answer = self.client.send("POST", self.client.path, body)
                self.assertEqual(200, status)
                if how == "none":
                    self.assertNotIn("Wechatpay-Signature", headers)
                elif how == "probe":
                    self.assertIn("WECHATPAY/SIGNTEST/", headers["Wechatpay-Signature"])
                elif how == "stranger":
                    self.assert_signed(headers, answer, "stranger_public_key.pem")
                elif how == "stale":
                    age_s = time.time() - int(headers["Wechatpay-Timestamp"])
                    self.assertGreater(age_s, 300)
                else:
                    self.assertNotIn(headers["Wechatpay-Serial"], self.client.keys.own)
        self.assert_paid_once(self.refund_no)
        for rule in (
            {"fault": "bad_signature", "how": "x"},
            {"fault": "provider_error", "code": "X", "signature": "x"},
            {"fault": "notify_forged", "how": "wrong_node"},
        ):
            self.assertEqual(400, self.gateway.json("POST", "/admin/faults", [rule])[0], rule)


class FaultsTest(WechatTest):
    def test_provider_errors(self) -> None:
        for code, status in (
            ("SYSTEM_ERROR", 500),
            ("FREQUENCY_LIMITED", 429),
            ("NOT_ENOUGH", 403),
            ("USER_ACCOUNT_ABNORMAL", 403),
            ("BIZ_ERR_NEED_RETRY", 500),
        ):
            self.gateway.faults({"fault": "provider_error", "code": code})
            answer = self.client.refund(self.refund_no)
            self.assertEqual((status, code), (answer[0], answer[1]["code"]))
        self.assertFalse(self.gateway.knows(self.refund_no))
        rule = {"fault": "provider_error", "code": "SYSTEM_ERROR", "status": 503, "acted": True}
        self.gateway.faults({**rule, "signature": "none", "message": "busy"})
        body = json.dumps(self.client.demand(self.refund_no)).encode()
        status, headers, answered = self.client.send("POST", self.client.path, body)
        self.assertEqual((503, "busy"), (status, json.loads(answered)["message"]))
        self.assertNotIn("Wechatpay-Signature", headers)
        self.assert_paid_once(self.refund_no)

    def test_generic_faults(self) -> None:
        for fault, status, acted in (
            ("500_before", 500, False),
            ("429", 429, False),
            ("503", 503, False),
            ("4xx", 400, False),
            ("408", 408, False),
            ("500_after", 500, True),
        ):
            refund_no = f"{self.payment_id}{fault[-1]}-R1"
            self.pay(refund_no.removesuffix("-R1"))
            self.gateway.faults({"fault": fault})
            answer = self.client.refund(refund_no)
            self.assertEqual(status, answer[0])
            self.assertEqual({"code", "message"}, answer[1].keys())
            self.assertEqual(acted, self.gateway.knows(refund_no), fault)

    def test_broken_connections(self) -> None:
        for how in ("close", "reset"):
            self.gateway.faults({"fault": "drop_after", "how": how})
            with self.assertRaises(OSError):
                self.client.refund(self.refund_no)
        self.gateway.faults({"fault": "truncated"})
        with self.assertRaises(Exception):
            self.client.refund(self.refund_no)
        self.assert_paid_once(self.refund_no)

    def test_lies(self) -> None:
        self.gateway.faults({"fault": "wrong_status_word"})
        self.assertEqual("weird", self.client.refund(self.refund_no)[1]["status"])
        self.gateway.faults({"fault": "wrong_refund_no"})
        answer = self.client.refund(self.refund_no)[1]
        self.assertEqual("of-someone-else-R1", answer["out_refund_no"])
        self.gateway.faults({"fault": "forget"})
        self.assertEqual(404, self.client.query(self.refund_no)[0])

    def test_failed_is_closed(self) -> None:
        self.gateway.faults({"fault": "failed"})
        self.assertEqual("CLOSED", self.client.refund(self.refund_no)[1]["status"])
        self.gateway.faults()
        self.assertEqual("CLOSED", self.client.query(self.refund_no)[1]["status"])


class CrashTest(WechatTest):
    def test_refunds_and_nonces_survive_kill_9(self) -> None:
        with tempfile.TemporaryDirectory(prefix="stand_in_gateway.") as directory:
            options = ("--protocol", "wechat", "--mode", "immediate")
            self.use(self.start_in(directory, *options))
            self.pay("killed")
            body = json.dumps(self.client.demand("killed-R1")).encode()
            sent = self.client.send("POST", self.client.path, body, nonce_str="once")
            self.assertEqual(200, sent[0])
            self.gateway.stop(signal.SIGKILL)
            self.use(self.start_in(directory, *options, port=self.gateway.port))
            sent = self.client.send("POST", self.client.path, body, nonce_str="once")
            self.assertEqual(401, sent[0])
            self.assertEqual("SUCCESS", self.client.refund("killed-R1")[1]["status"])
            self.assert_paid_once("killed-R1")
            self.gateway.stop()

    def test_a_number_that_was_forgotten_pays_twice(self) -> None:
        options = ("--protocol", "wechat", "--mode", "immediate", "--idempotency-horizon-ms", "0")
        self.use(self.start(*options))
        self.pay("forgot")
        half = {"refund": 1600, "total": 3200, "currency": "CNY"}
        for _ in range(2):
            self.client.refund("forgot-R1", amount=half)
        self.assertEqual(["forgot-R1"], self.gateway.summary()["duplicate_refund_nos"])


if __name__ == "__main__":
    unittest.main()
