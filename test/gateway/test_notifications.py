#!/usr/bin/env python3
"""Tests the notifications of all stand-ins: their form, their delivery, and the faults of both."""

from __future__ import annotations

import concurrent.futures
import hashlib
import hmac
import json
import signal
import tempfile
import typing
import unittest
from urllib.parse import parse_qsl

import alipay_protocol
import standard_webhooks
import wechat_protocol
from gateway_process import DEADLINE_S, Gateway, wait_for
from gateway_test_case import GatewayTest
from notification_receiver import Delivered, Receiver
from provider_clients import (
    ALIPAY_KEYS,
    WECHAT_KEYS,
    AlipayClient,
    StripeClient,
    WechatClient,
)
from rsa_keys import Key, open_gcm

Fields = dict[str, typing.Any]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
STRIPE_SECRET = "whsec_payonce_test_secret_0123456789abcdef"
SUCCESS = (200, b"success")


# -- what a merchant does with a notification: None if it is not authentic


def lower(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def open_wechat(news: Delivered) -> Fields | None:
    headers, keys = lower(news.headers), wechat_protocol.Keys(WECHAT_KEYS)
    text = wechat_protocol.signed_answer(
        headers["wechatpay-timestamp"], headers["wechatpay-nonce"], news.body
    )
    key = Key(WECHAT_KEYS, "wechatpay_public_key.pem")
    if not key.has_signed(text, headers.get("wechatpay-signature", "")):
        return None
    envelope = json.loads(news.body)
    resource = envelope["resource"]
    plaintext = open_gcm(
        keys.api_v3_key,
        resource["nonce"].encode(),
        resource["associated_data"].encode(),
        resource["ciphertext"],
    )
    return {**json.loads(plaintext), "event_type": envelope["event_type"], "id": envelope["id"]}


def open_alipay(news: Delivered) -> Fields | None:
    fields = dict(parse_qsl(news.body.decode(), strict_parsing=True))
    text = alipay_protocol.canonical(fields, "sign", "sign_type")
    key = Key(ALIPAY_KEYS, "alipay_public_key.pem")
    return fields if key.has_signed(text, fields.get("sign", "")) else None


def open_stripe(news: Delivered) -> Fields | None:
    pairs = dict(pair.split("=") for pair in lower(news.headers)["stripe-signature"].split(","))
    text = pairs["t"].encode() + b"." + news.body
    expected = hmac.new(STRIPE_SECRET.encode(), text, hashlib.sha256).hexdigest()
    event: Fields = json.loads(news.body)
    return event if hmac.compare_digest(expected, pairs["v1"]) else None


def open_generic(news: Delivered) -> Fields | None:
    headers = lower(news.headers)
    key = standard_webhooks.key_of_secret(SECRET)
    now_s = int(headers["webhook-timestamp"])
    if standard_webhooks.failure(key, headers, news.body, now_s) is not None:
        return None
    fields: Fields = json.loads(news.body)
    return fields


class NotificationTest(GatewayTest):
    options: tuple[str, ...] = ("--protocol", "stripe")

    def receiver(self, *answers: tuple[int, bytes]) -> Receiver:
        receiver = Receiver(*(answers or (SUCCESS,)))
        self.addCleanup(receiver.stop)
        return receiver

    def run_gateway(self, protocol: str, receiver: Receiver, *options: str) -> Gateway:
        own = ("--protocol", protocol, "--notify-url", receiver.url, "--notify-retry-ms", "10")
        return self.start(*own, *options)

    def wait_delivered(self, receiver: Receiver, count: int) -> list[Delivered]:
        wait_for(lambda: len(receiver.delivered) >= count, f"{count} notifications")
        return receiver.delivered

    def wait_over(self, gateway: Gateway, count: int) -> list[Fields]:
        def over() -> list[Fields] | None:
            listed: list[Fields] = gateway.admin("notifications")
            return listed if [one["is_over"] for one in listed] == [True] * count else None

        listed: list[Fields] = wait_for(over, f"{count} notifications are over")
        return listed

    @staticmethod
    def pay(gateway: Gateway, payment_id: str, **more: typing.Any) -> None:
        payment = {"payment_id": payment_id, "amount": 3200, "currency": "CNY", **more}
        gateway.admin("payments", payment)


class FormTest(NotificationTest):
    def test_wechat(self) -> None:
        receiver = self.receiver((204, b""))
        gateway = self.run_gateway("wechat", receiver, "--mode", "processing")
        self.pay(gateway, "pay001", notify=True)
        paid = open_wechat(self.wait_delivered(receiver, 1)[0])
        assert paid is not None
        self.assertEqual("TRANSACTION.SUCCESS", paid["event_type"])
        self.assertEqual(("pay001", "SUCCESS"), (paid["out_trade_no"], paid["trade_state"]))
        self.assertEqual(3200, paid["amount"]["total"])
        client = WechatClient(gateway)
        client.refund("pay001-R1")
        for word, count in (("SUCCESS", 2), ("ABNORMAL", 3), ("CLOSED", 4)):
            gateway.admin("settle", {"refund_no": "pay001-R1", "state": word})
            refunded = open_wechat(self.wait_delivered(receiver, count)[-1])
            assert refunded is not None
            self.assertEqual(f"REFUND.{word}", refunded["event_type"])
            self.assertEqual(word, refunded["refund_status"])
            self.assertEqual(word == "SUCCESS", "success_time" in refunded)
            self.assertEqual(
                {"total", "refund", "payer_total", "payer_refund"}, refunded["amount"].keys()
            )
        self.wait_over(gateway, 4)

    def test_wechat_notify_url_of_the_request(self) -> None:
        usual, own = self.receiver(), self.receiver()
        gateway = self.run_gateway("wechat", usual, "--mode", "immediate")
        client = WechatClient(gateway)
        for payment_id, url, receiver in (
            ("pay001", own.url, own),
            ("pay002", "https://pay.example.com/refunds", usual),
        ):
            self.pay(gateway, payment_id)
            client.refund(f"{payment_id}-R1", notify_url=url)
            self.wait_delivered(receiver, 1)
        self.assertEqual([1, 1], [len(usual.delivered), len(own.delivered)])

    def test_alipay(self) -> None:
        receiver = self.receiver()
        gateway = self.run_gateway("alipay", receiver, "--order-spacing-ms", "0")
        self.pay(gateway, "pay001", notify=True)
        paid = open_alipay(self.wait_delivered(receiver, 1)[0])
        assert paid is not None
        self.assertEqual(("TRADE_SUCCESS", "32.00"), (paid["trade_status"], paid["total_amount"]))
        self.assertNotIn("refund_fee", paid)
        client = AlipayClient(gateway)
        for number, amount, status, fee in (
            (1, "12.00", "TRADE_SUCCESS", "12.00"),
            (2, "20.00", "TRADE_CLOSED", "32.00"),
        ):
            client.refund(f"pay001-R{number}", refund_amount=amount)
            news = open_alipay(self.wait_delivered(receiver, number + 1)[-1])
            assert news is not None
            self.assertEqual((status, fee), (news["trade_status"], news["refund_fee"]))
            self.assertEqual(f"pay001-R{number}", news["out_biz_no"])
            self.assertIn("gmt_refund", news)
            self.assertEqual(status == "TRADE_CLOSED", "gmt_close" in news)

    def test_stripe(self) -> None:
        receiver = self.receiver()
        gateway = self.run_gateway("stripe", receiver, "--mode", "processing")
        self.pay(gateway, "pay001", currency="USD", notify=True)
        paid = open_stripe(self.wait_delivered(receiver, 1)[0])
        assert paid is not None
        intent = paid["data"]["object"]
        self.assertEqual("payment_intent.succeeded", paid["type"])
        self.assertEqual({"out_trade_no": "pay001"}, intent["metadata"])
        self.assertEqual((3200, "usd"), (intent["amount_received"], intent["currency"]))
        self.assertTrue(intent["latest_charge"].startswith("ch_"))
        StripeClient(gateway).refund("pay001-R1")
        self.wait_delivered(receiver, 2)
        gateway.admin("settle", {"refund_no": "pay001-R1", "state": "succeeded"})
        self.wait_delivered(receiver, 4)
        gateway.admin("settle", {"refund_no": "pay001-R1", "state": "failed"})
        events = [open_stripe(news) for news in self.wait_delivered(receiver, 5)]
        types = [event["type"] for event in events if event is not None]
        expected = ["refund.created", "refund.updated", "charge.refunded", "refund.failed"]
        self.assertEqual(["payment_intent.succeeded", *expected], types)

    def test_generic(self) -> None:
        receiver = self.receiver((202, b""))
        gateway = self.run_gateway("http", receiver, "--signing-secret", SECRET)
        self.pay(gateway, "pay001", transaction_id="T-1", notify=True)
        paid = open_generic(self.wait_delivered(receiver, 1)[0])
        expected = {
            "type": "payment.succeeded",
            "payment_id": "pay001",
            "amount": 3200,
            "currency": "CNY",
            "transaction_id": "T-1",
        }
        self.assertEqual(expected, paid)

    def test_generic_refunds(self) -> None:
        receiver = self.receiver()
        gateway = self.run_gateway("http", receiver)
        gateway.refund("pay001-R1")
        gateway.admin("settle", {"refund_no": "pay001-R1", "state": "failed"})
        news = [json.loads(one.body) for one in self.wait_delivered(receiver, 2)]
        self.assertEqual(["refund.succeeded", "refund.failed"], [one["type"] for one in news])
        self.assertEqual({"type", "refund_no", "amount", "currency", "refund_id"}, news[0].keys())
        # Without a secret nothing is signed.
        self.assertNotIn("webhook-signature", lower(receiver.delivered[0].headers))


class DeliveryTest(NotificationTest):
    def test_until_acknowledged_as_each_provider_demands(self) -> None:
        cases: dict[str, list[tuple[int, bytes]]] = {
            "wechat": [(500, b""), (202, b""), (302, b""), (200, b"")],
            "alipay": [(200, b"fail"), (200, b"success\n"), (202, b"success"), SUCCESS],
            "stripe": [(400, b""), (302, b""), (299, b"")],
            "http": [(404, b""), (201, b"")],
        }
        for protocol, answers in cases.items():
            with self.subTest(protocol):
                receiver = self.receiver(*answers)
                gateway = self.run_gateway(protocol, receiver)
                transaction = {"transaction_id": "T-1"} if protocol == "http" else {}
                self.pay(gateway, "pay001", notify=True, **transaction)
                (listed,) = self.wait_over(gateway, 1)
                self.assertEqual(len(answers), listed["tries"])
                self.assertEqual(answers[-1][0], listed["last_status"])
                self.assertEqual(answers[-1][1].decode(), listed["last_body"])
                self.assertTrue(listed["acknowledged"])
                self.assertEqual(len(answers), len(receiver.delivered))

    def test_each_delivery_of_wechat_is_signed_anew(self) -> None:
        receiver = self.receiver((500, b""), (200, b""))
        gateway = self.run_gateway("wechat", receiver)
        self.pay(gateway, "pay001", notify=True)
        first, second = (open_wechat(news) for news in self.wait_delivered(receiver, 2))
        assert first is not None and second is not None
        self.assertEqual(first["id"], second["id"])
        nonces = {lower(news.headers)["wechatpay-nonce"] for news in receiver.delivered}
        self.assertEqual(2, len(nonces))

    def test_it_gives_up(self) -> None:
        receiver = self.receiver((500, b"no"))
        gateway = self.run_gateway("stripe", receiver, "--notify-tries", "3")
        self.pay(gateway, "pay001", notify=True)
        (listed,) = self.wait_over(gateway, 1)
        self.assertEqual(
            (3, 500, False), tuple(listed[k] for k in ("tries", "last_status", "acknowledged"))
        )

    def test_nobody_listens(self) -> None:
        receiver = self.receiver()
        receiver.stop()
        gateway = self.run_gateway("stripe", receiver, "--notify-tries", "2")
        self.pay(gateway, "pay001", notify=True)
        (listed,) = self.wait_over(gateway, 1)
        self.assertIsNone(listed["last_status"])
        self.assertIn("Connect", listed["last_error"])

    def test_it_goes_on_after_kill_9(self) -> None:
        receiver = self.receiver((500, b""))
        with tempfile.TemporaryDirectory(prefix="stand_in_gateway.") as directory:
            options = ("--protocol", "wechat", "--notify-url", receiver.url)
            gateway = self.start_in(directory, *options, "--notify-retry-ms", "10")
            self.pay(gateway, "pay001", notify=True)
            self.wait_delivered(receiver, 1)
            gateway.stop(signal.SIGKILL)
            before = len(receiver.delivered)
            gateway = self.start_in(directory, *options, "--notify-retry-ms", "10")
            self.wait_delivered(receiver, before + 1)
            self.assertEqual("pay001", gateway.admin("notifications")[0]["payment_id"])
            gateway.stop()


class FaultsTest(NotificationTest):
    def refund_in_background(self, gateway: Gateway, refund_no: str) -> typing.Any:
        pool = concurrent.futures.ThreadPoolExecutor(1)
        self.addCleanup(pool.shutdown)
        return pool.submit(WechatClient(gateway).refund, refund_no)

    def test_before_the_answer(self) -> None:
        for mode in ("immediate", '{"mode":"processing","after_queries":0}'):
            with self.subTest(mode):
                receiver = self.receiver()
                receiver.may_answer.clear()
                gateway = self.run_gateway(
                    "wechat", receiver, "--mode", mode, "--fault", "notify_early"
                )
                self.pay(gateway, "pay001")
                answer = self.refund_in_background(gateway, "pay001-R1")
                news = open_wechat(self.wait_delivered(receiver, 1)[0])
                assert news is not None
                self.assertEqual("SUCCESS", news["refund_status"])
                self.assertFalse(answer.done())
                receiver.may_answer.set()
                # What the answer says was true when it was written.
                expected = "SUCCESS" if mode == "immediate" else "PROCESSING"
                self.assertEqual(expected, answer.result(DEADLINE_S)[1]["status"])
                self.wait_over(gateway, 1)

    def test_duplicated(self) -> None:
        for parallel in (False, True):
            receiver = self.receiver()
            gateway = self.run_gateway("wechat", receiver)
            gateway.faults({"fault": "notify_duplicated", "times": 4, "parallel": parallel})
            receiver.may_answer.clear()
            self.pay(gateway, "pay001", notify=True)
            # Parallel ones do not wait for each other's answers.
            self.wait_delivered(receiver, 4 if parallel else 1)
            receiver.may_answer.set()
            listed = self.wait_over(gateway, 4)
            self.assertEqual(1, len({one["event_id"] for one in listed}))
            self.assertEqual(4, len(receiver.delivered))

    def test_reordered(self) -> None:
        receiver = self.receiver()
        gateway = self.run_gateway("stripe", receiver)
        gateway.faults({"fault": "notify_reordered", "match": "first"})
        for payment_id in ("first", "second"):
            self.pay(gateway, payment_id, notify=True)
        events = [open_stripe(news) for news in self.wait_delivered(receiver, 2)]
        numbers = [e["data"]["object"]["metadata"]["out_trade_no"] for e in events if e]
        self.assertEqual(["second", "first"], numbers)

    def test_forged(self) -> None:
        openers = {"wechat": open_wechat, "alipay": open_alipay, "stripe": open_stripe}
        for protocol, opened in openers.items():
            with self.subTest(protocol):
                receiver = self.receiver((401, b""), SUCCESS)
                gateway = self.run_gateway(protocol, receiver)
                gateway.faults({"fault": "notify_forged"})
                self.pay(gateway, "pay001", notify=True)
                forged, good = self.wait_delivered(receiver, 2)
                self.assertIsNone(opened(forged))
                self.assertIsNotNone(opened(good))
                self.wait_over(gateway, 1)
                counters = gateway.summary()["counters"]
                self.assertNotIn("forged_notifications_acknowledged", counters)

    def test_acknowledging_a_forged_one_is_counted(self) -> None:
        gateway = self.run_gateway("wechat", self.receiver(), "--fault", "notify_forged")
        self.pay(gateway, "pay001", notify=True)
        self.wait_over(gateway, 1)
        counters = gateway.summary()["counters"]
        self.assertEqual(1, counters["forged_notifications_acknowledged"])

    def test_lost(self) -> None:
        receiver = self.receiver()
        gateway = self.run_gateway("stripe", receiver)
        gateway.faults({"fault": "notify_lost", "count": 1})
        self.pay(gateway, "lost", notify=True)
        self.pay(gateway, "found", notify=True)
        lost, found = self.wait_over(gateway, 2)
        self.assertEqual((0, False), (lost["tries"], lost["acknowledged"]))
        self.assertEqual((1, True), (found["tries"], found["acknowledged"]))


class OnDemandTest(NotificationTest):
    def notify(self, gateway: Gateway, **wanted: typing.Any) -> list[Fields]:
        notifications: list[Fields] = gateway.admin("notify", wanted)["notifications"]
        return notifications

    @staticmethod
    def delivered(returned: Fields) -> Delivered:
        return Delivered(returned["headers"], returned["body"].encode())

    def test_only_returned(self) -> None:
        gateway = self.start("--protocol", "wechat", "--mode", "immediate")
        self.pay(gateway, "pay001")
        (first,) = self.notify(gateway, kind="payment", payment_id="pay001", deliver=False)
        paid = open_wechat(self.delivered(first))
        assert paid is not None
        self.assertEqual("pay001", paid["out_trade_no"])
        self.assertEqual("TRANSACTION.SUCCESS", first["type"])
        WechatClient(gateway).refund("pay001-R1")
        wanted = {"kind": "refund", "refund_no": "pay001-R1", "deliver": False}
        changes = {"amount": {"refund": 1}, "success_time": None, "out_refund_no": "console-1"}
        (returned,) = self.notify(gateway, **wanted, type="REFUND.CLOSED", changes=changes)
        news = open_wechat(self.delivered(returned))
        assert news is not None
        self.assertEqual(("CLOSED", "console-1"), (news["refund_status"], news["out_refund_no"]))
        self.assertEqual((1, 3200), (news["amount"]["refund"], news["amount"]["total"]))
        self.assertNotIn("success_time", news)
        (usual,) = self.notify(gateway, **wanted)
        (again,) = self.notify(gateway, **wanted)
        self.assertEqual(usual["event_id"], again["event_id"])
        self.assertNotEqual(usual["event_id"], returned["event_id"])
        (forged,) = self.notify(gateway, **wanted, signature="stranger")
        self.assertIsNone(open_wechat(self.delivered(forged)))
        self.assertEqual([], gateway.admin("notifications"))

    def test_of_a_payment_that_never_was(self) -> None:
        gateway = self.start("--protocol", "alipay")
        about = {"payment_id": "nobody", "amount": 1, "currency": "CNY"}
        (returned,) = self.notify(gateway, kind="payment", deliver=False, **about)
        news = open_alipay(self.delivered(returned))
        assert news is not None
        self.assertEqual("0.01", news["total_amount"])
        self.assertEqual(0, gateway.summary()["payments"])
        wanted = {"kind": "payment", "payment_id": "nobody"}
        self.assertEqual(404, gateway.json("POST", "/admin/notify", wanted)[0])

    def test_failed_payments(self) -> None:
        about = {"payment_id": "p", "amount": 1, "currency": "CNY", "deliver": False}
        gateway = self.start("--signing-secret", SECRET)
        wanted = {"kind": "payment", "type": "payment.failed", "transaction_id": "T-1", **about}
        (returned,) = self.notify(gateway, **wanted)
        news = open_generic(self.delivered(returned))
        assert news is not None
        self.assertEqual("payment.failed", news["type"])
        gateway = self.start("--protocol", "stripe")
        wanted = {"kind": "payment", "type": "payment_intent.payment_failed", **about}
        (returned,) = self.notify(gateway, **wanted)
        event = open_stripe(self.delivered(returned))
        assert event is not None
        self.assertEqual(0, event["data"]["object"]["amount_received"])

    def test_delivered(self) -> None:
        receiver = self.receiver()
        gateway = self.run_gateway("stripe", receiver)
        self.pay(gateway, "pay001")
        sent = self.notify(gateway, kind="payment", payment_id="pay001", times=3, parallel=True)
        self.assertEqual(["payment_intent.succeeded"], [one["type"] for one in sent])
        self.wait_over(gateway, 3)
        self.assertEqual(3, len(receiver.delivered))

    def test_bad_commands_are_refused(self) -> None:
        self.pay(self.gateway, "known")
        known = {"kind": "payment", "payment_id": "known"}
        for wanted, status in (
            ({}, 400),
            ({"kind": "order"}, 400),
            ({"kind": "payment"}, 400),
            ({"kind": "refund", "refund_no": "nobody-R1"}, 404),
            ({**known, "unknown": 1}, 400),
            ({**known, "signature": "x"}, 400),
            ({**known, "changes": []}, 400),
            ({**known, "type": 1}, 400),
            (known, 400),  # there is no --notify-url
            ({**known, "url": "http://192.0.2.1/"}, 400),
            ({**known, "url": "http://127.0.0.1:1/", "times": 0}, 400),
        ):
            self.assertEqual(status, self.gateway.json("POST", "/admin/notify", wanted)[0], wanted)


if __name__ == "__main__":
    unittest.main()
