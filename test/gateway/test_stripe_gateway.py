#!/usr/bin/env python3
"""Tests the Stripe stand-in: its webhook signatures against the test vectors, then over sockets."""

from __future__ import annotations

import json
import os
import secrets
import signal
import tempfile
import typing
import unittest

import stripe_protocol
from gateway_process import wait_for
from gateway_test_case import GatewayTest
from http_server import Request
from ledger import Ledger, Policy
from provider_clients import PI, VECTORS, StripeClient

SECRET = "whsec_payonce_test_secret_0123456789abcdef"


def vectors(name: str) -> typing.Any:
    with open(os.path.join(VECTORS, "stripe", f"{name}.json"), encoding="utf-8") as file:
        return json.load(file)["vectors"]


class VectorsTest(unittest.TestCase):
    def test_recorded_requests_are_accepted(self) -> None:
        with tempfile.TemporaryDirectory(prefix="stand_in_gateway.") as directory:
            path = os.path.join(directory, "ledger")
            ledger = Ledger(path, "stripe", Policy(True), stripe_protocol.DIALECT)
            self.addCleanup(ledger.close)
            ledger.add_payment("P20260115000001", 9999, "USD", "pi_3PayonceTest000000001")
            protocol = stripe_protocol.StripeProtocol(
                StripeClient.secret_key, SECRET, None, 100, ledger
            )
            for vector in vectors("requests"):
                path, _, query = vector["path_and_query"].partition("?")
                if not path.startswith("/v1/refunds"):
                    continue
                segments = tuple(path[1:].split("/"))
                request = Request(
                    vector["method"],
                    vector["path_and_query"],
                    segments,
                    query,
                    vector["headers"],
                    vector["body"].encode(),
                    True,
                    0,
                )
                call = protocol.read(request)
                # The refund that is retrieved was never made here.
                expected = 404 if vector["name"] == "refund_retrieve" else None
                self.assertEqual(expected, call.refusal and call.refusal.status, vector["name"])
                self.assertIsNone(call.refusal_counter)
                if vector["body"]:
                    self.assertEqual(vector["decoded_body"], stripe_protocol._form_of(request.body))

    def test_webhook_signatures(self) -> None:
        checked = 0
        for vector in vectors("verify_webhooks"):
            if vector["expect"]["verify"] == "ok":
                pairs = [pair.partition("=")[::2] for pair in vector["header"].split(",")]
                given = [value for name, value in pairs if name == "v1"]
                timestamp_s = int(dict(pairs)["t"])
                body = vector["body"].encode()
                self.assertIn(stripe_protocol.signed_event(SECRET, timestamp_s, body), given)
                checked += 1
        self.assertGreater(checked, 5)


class StripeTest(GatewayTest):
    options: tuple[str, ...] = ("--protocol", "stripe")

    def setUp(self) -> None:
        super().setUp()
        self.use(self.gateway)
        self.payment_id = f"p{secrets.token_hex(6)}"
        self.refund_no = f"{self.payment_id}-R1"
        self.pay(self.payment_id)
        self.addCleanup(self.gateway.admin, "mode", {"mode": "immediate"})

    def use(self, gateway: typing.Any) -> None:
        self.gateway = gateway
        self.client = StripeClient(gateway)

    def pay(self, payment_id: str, **more: typing.Any) -> None:
        payment = {"payment_id": payment_id, "amount": 3200, "currency": "USD", **more}
        self.gateway.admin("payments", payment)

    def counter(self, name: str) -> int:
        return int(self.gateway.summary()["counters"].get(name, 0))


class RefundTest(StripeTest):
    def test_stored_answer_is_replayed(self) -> None:
        before = self.gateway.summary()["refused_requests"]
        parameters = self.client.parameters(self.refund_no, reason="duplicate")
        first, second = (self.client.post("key-1", parameters) for _ in range(2))
        self.assertEqual((200, first[2]), (second[0], second[2]))
        self.assertNotIn("Idempotent-Replayed", first[1])
        self.assertEqual("true", second[1]["Idempotent-Replayed"])
        self.assertNotEqual(first[1]["Request-Id"], second[1]["Request-Id"])
        refund = json.loads(first[2])
        self.assertEqual(("refund", "succeeded"), (refund["object"], refund["status"]))
        self.assertEqual(("usd", 3200), (refund["currency"], refund["amount"]))
        self.assertEqual({"out_refund_no": self.refund_no}, refund["metadata"])
        self.assertEqual((200, refund), self.client.get(f"/{refund['id']}"))
        self.assertEqual([refund], self.client.list(self.payment_id)[1]["data"])
        self.assert_paid_once(self.refund_no)
        self.assertEqual(before, self.gateway.summary()["refused_requests"])

    def test_same_key_with_other_parameters(self) -> None:
        self.client.refund(self.refund_no, "key-2")
        status, answer = self.client.refund(self.refund_no, "key-2", amount="3100")
        self.assertEqual((400, "idempotency_error"), (status, answer["error"]["type"]))
        self.assertEqual(1, self.counter("idempotency_misuses"))

    def test_by_charge(self) -> None:
        charge = PI(self.payment_id).replace("pi_", "ch_")
        changes = {"payment_intent": None, "charge": charge}
        self.assertEqual(200, self.client.refund(self.refund_no, **changes)[0])
        _, page = self.client.get(f"?charge={charge}")
        self.assertEqual([charge], [refund["charge"] for refund in page["data"]])

    def test_paging_newest_first(self) -> None:
        self.use(self.start("--protocol", "stripe", "--page-limit", "2"))
        self.pay("paged")
        for number in range(5):
            self.client.refund(f"paged-R{number}", amount="100")
        numbers: list[str] = []
        page: typing.Any = None
        more: dict[str, str] = {}
        pages = 0
        while page is None or page["has_more"]:
            _, page = self.client.list("paged", limit=100, **more)
            numbers += [refund["metadata"]["out_refund_no"] for refund in page["data"]]
            more = {"starting_after": page["data"][-1]["id"]}
            pages += 1
        self.assertEqual([f"paged-R{number}" for number in (4, 3, 2, 1, 0)], numbers)
        self.assertEqual(3, pages)
        _, page = self.client.list("paged", limit=1)
        self.assertEqual((1, True), (len(page["data"]), page["has_more"]))

    def test_another_key_is_another_refund_and_convicted(self) -> None:
        half = {"amount": "1600"}
        answers = [self.client.refund(self.refund_no, key, **half) for key in ("k1", "k2")]
        self.assertNotEqual(answers[0][1]["id"], answers[1][1]["id"])
        totals = self.gateway.summary()
        self.assertIn(self.refund_no, totals["duplicate_refund_nos"])
        self.assertEqual(1, self.gateway.row(f"{self.refund_no}#2")["paid_out_count"])
        self.assertEqual(2, len(self.client.list(self.payment_id)[1]["data"]))

    def test_a_key_that_was_forgotten_pays_twice(self) -> None:
        self.use(self.start("--protocol", "stripe", "--idempotency-horizon-ms", "0"))
        self.pay("forgot")
        for _ in range(2):
            self.assertEqual(200, self.client.refund("forgot-R1", amount="1600")[0])
        totals = self.gateway.summary()
        self.assertEqual((1, ["forgot-R1"]), (totals["duplicates"], totals["duplicate_refund_nos"]))
        self.assertEqual({"USD": 3200}, totals["total_refunded"])

    def test_a_failed_refund_may_be_made_again(self) -> None:
        self.client.refund(self.refund_no, "g1")
        self.gateway.admin("settle", {"refund_no": self.refund_no, "state": "failed"})
        self.assertEqual(200, self.client.refund(self.refund_no, "g2")[0])
        self.assert_paid_once(self.refund_no)
        self.assertEqual("failed", self.gateway.row(f"{self.refund_no}#2")["state"])
        self.assertNotIn(self.refund_no, self.gateway.summary()["duplicate_refund_nos"])

    def test_more_than_is_left(self) -> None:
        self.client.refund(self.refund_no, amount="3000")
        status, answer = self.client.refund(f"{self.payment_id}-R2", amount="201")
        self.assertEqual((400, "amount"), (status, answer["error"]["param"]))
        self.assertNotIn("code", answer["error"])
        self.client.refund(f"{self.payment_id}-R3", amount="200")
        status, answer = self.client.refund(f"{self.payment_id}-R4", amount="1")
        self.assertEqual("charge_already_refunded", answer["error"]["code"])

    def test_states(self) -> None:
        self.gateway.admin("mode", {"mode": "processing", "reason": "insufficient_funds"})
        refund = self.client.refund(self.refund_no)[1]
        self.assertEqual("insufficient_funds", refund["pending_reason"])
        for word, count in (
            ("requires_action", 0),
            ("succeeded", 1),
            ("failed", 0),
            ("canceled", 0),
        ):
            settled = {"refund_no": self.refund_no, "state": word}
            row = self.gateway.admin("settle", settled)
            self.assertEqual(count, row["paid_out_count"])
            self.assertEqual(word, self.client.get(f"/{refund['id']}")[1]["status"])
        settled = {"refund_no": self.refund_no, "state": "failed", "error": "declined"}
        self.gateway.admin("settle", settled)
        self.assertEqual("declined", self.client.get(f"/{refund['id']}")[1]["failure_reason"])
        # The key's answer is the first one for ever.
        self.assertEqual(refund, self.client.refund(self.refund_no)[1])


class StrictTest(StripeTest):
    def test_headers(self) -> None:
        parameters = self.client.parameters(self.refund_no)
        cases: list[tuple[dict[str, str | None], int, str]] = [
            ({"Authorization": None}, 401, "bearer_failures"),
            ({"Authorization": "Bearer sk_test_other"}, 401, "bearer_failures"),
            ({"Stripe-Version": None}, 400, "bad_requests"),
            ({"Stripe-Version": "latest"}, 400, "bad_requests"),
            ({"Content-Type": "application/json"}, 400, "bad_requests"),
            ({"Idempotency-Key": None}, 400, "bad_requests"),
            ({"Idempotency-Key": "x" * 256}, 400, "bad_requests"),
        ]
        for headers, status, counter in cases:
            with self.subTest(headers):
                before = self.counter(counter)
                self.assertEqual(status, self.client.post("key", parameters, **headers)[0])
                self.assertEqual(before + 1, self.counter(counter))

    def test_parameters(self) -> None:
        wrong: list[dict[str, typing.Any]] = [
            {"amount": None},
            {"amount": "0"},
            {"amount": "-1"},
            {"amount": "1.5"},
            {"reason": "late"},
            {"payment_intent": None},
            {"charge": "ch_1"},
            {"payment_intent": "T-1"},
            {"metadata[out_refund_no]": None},
            {"metadata[x]": "x" * 501},
            {f"metadata[{'x' * 41}]": "x"},
            {f"metadata[{number}]": "x" for number in range(50)},
            {"currency": "usd"},
        ]
        for changes in wrong:
            with self.subTest(changes):
                status, answer = self.client.refund(self.refund_no, **changes)
                self.assertEqual((400, "invalid_request_error"), (status, answer["error"]["type"]))
        self.assertFalse(self.gateway.knows(self.refund_no))
        # Nothing was stored under the key.
        self.assertEqual(200, self.client.refund(self.refund_no)[0])
        status, answer = self.client.refund("nobody-R1")
        self.assertEqual((404, "resource_missing"), (status, answer["error"]["code"]))

    def test_queries(self) -> None:
        for target, status in (
            ("", 400),
            (f"?payment_intent={PI(self.payment_id)}&limit=101", 400),
            (f"?payment_intent={PI(self.payment_id)}&limit=0", 400),
            (f"?payment_intent={PI(self.payment_id)}&order=asc", 400),
            (f"?payment_intent={PI(self.payment_id)}&starting_after=re_x", 400),
            (f"?payment_intent={PI(self.payment_id)}&created[gte]=x", 400),
            ("?payment_intent=pi_3nobody", 404),
            ("/re_nobody", 404),
            ("/re_nobody?x=1", 400),
            ("/re_nobody/cancel", 404),
            (f"?payment_intent={PI(self.payment_id)}&created%5Bgte%5D=1", 200),
        ):
            self.assertEqual(status, self.client.get(target)[0], target)


class FaultsTest(StripeTest):
    def test_stored_500(self) -> None:
        for acted in (False, True):
            refund_no = f"{self.payment_id}x{int(acted)}-R1"
            self.pay(refund_no.removesuffix("-R1"))
            rule = {"fault": "provider_error", "code": "x", "status": 500, "acted": acted}
            self.gateway.faults({**rule, "count": 1})
            answers = [self.client.refund(refund_no) for _ in range(2)]
            self.assertEqual([answers[0]] * 2, answers)
            self.assertEqual((500, "api_error"), (answers[0][0], answers[0][1]["error"]["type"]))
            self.assertEqual(acted, self.gateway.knows(refund_no))
            found = self.client.list(refund_no.removesuffix("-R1"))[1]["data"]
            self.assertEqual(int(acted), len(found))

    def test_errors_that_are_not_stored(self) -> None:
        for code, status in (
            ("idempotency_key_in_use", 409),
            ("lock_timeout", 429),
            ("balance_insufficient", 400),
        ):
            self.gateway.faults({"fault": "provider_error", "code": code, "count": 1})
            answer = self.client.refund(self.refund_no)
            self.assertEqual((status, code), (answer[0], answer[1]["error"]["code"]))
        self.assertEqual(200, self.client.refund(self.refund_no)[0])
        self.pay("stored")
        rule = {"fault": "provider_error", "code": "balance_insufficient", "stored": True}
        self.gateway.faults({**rule, "count": 1})
        self.assertEqual([400, 400], [self.client.refund("stored-R1")[0] for _ in range(2)])
        self.assertEqual(200, self.client.refund("stored-R1", "stored-R1-a2")[0])

    def test_key_in_use_while_its_request_runs(self) -> None:
        self.gateway.faults({"fault": "hang", "count": 1})
        connection = self.gateway.connect()
        body = "&".join(f"{k}={v}" for k, v in self.client.parameters(self.refund_no).items())
        named: dict[str, str | None] = {"Idempotency-Key": "busy"}
        connection.request("POST", "/v1/refunds", body, self.client.headers(**named))
        self.gateway.admin("wait", what="in_flight", refund_no=self.refund_no)
        status, answer = self.client.refund(self.refund_no, "busy")
        self.assertEqual((409, "idempotency_key_in_use"), (status, answer["error"]["code"]))
        connection.close()
        wait_for(lambda: self.client.refund(self.refund_no, "busy")[0] == 200, "the key is free")

    def test_generic_faults_and_lies(self) -> None:
        self.gateway.faults({"fault": "500_before"})
        status, answer = self.client.refund(self.refund_no)
        self.assertEqual((500, "api_error"), (status, answer["error"]["type"]))
        self.gateway.faults({"fault": "wrong_status_word"})
        self.assertEqual("weird", self.client.refund(self.refund_no)[1]["status"])
        self.gateway.faults({"fault": "forget"})
        self.assertEqual([], self.client.list(self.payment_id)[1]["data"])
        self.gateway.faults()
        # The lie was not what is stored.
        self.assertEqual("succeeded", self.client.refund(self.refund_no)[1]["status"])

    def test_keys_and_refunds_survive_kill_9(self) -> None:
        with tempfile.TemporaryDirectory(prefix="stand_in_gateway.") as directory:
            self.use(self.start_in(directory, "--protocol", "stripe"))
            self.pay("killed")
            first = self.client.refund("killed-R1")
            self.gateway.stop(signal.SIGKILL)
            self.use(self.start_in(directory, "--protocol", "stripe", port=self.gateway.port))
            self.assertEqual(first, self.client.refund("killed-R1"))
            self.assert_paid_once("killed-R1")
            self.gateway.stop()


if __name__ == "__main__":
    unittest.main()
