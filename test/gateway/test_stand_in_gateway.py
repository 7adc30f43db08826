#!/usr/bin/env python3
"""Tests the stand-in gateway as its users meet it: a real process, over real sockets.

A judge that errs makes every other test worthless, so each fault, each refusal and each sum of
the ledger is shown here to be what the README says.
"""

from __future__ import annotations

import concurrent.futures
import email.utils
import http.client
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import time
import typing
import unittest

import fault_behaviours
import standard_webhooks
from gateway_process import (
    DEADLINE_S,
    HERE,
    PROGRAM,
    Answer,
    Fields,
    demand,
    raw_refund,
    refund_headers,
    until_closed,
    wait_for,
)
from gateway_test_case import GatewayTest

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class ContractTest(GatewayTest):
    def test_refund_is_paid_once_however_often_it_is_sent(self) -> None:
        answers = [self.gateway.refund(self.refund_no) for _ in range(3)]
        self.assertEqual(200, answers[0][0])
        self.assertEqual("succeeded", answers[0][1]["status"])
        self.assertEqual({"status", "refund_id"}, answers[0][1].keys())
        self.assertEqual([answers[0]] * 3, answers)
        self.assertEqual(answers[0], self.gateway.query(self.refund_no))
        self.assert_paid_once(self.refund_no)
        row = self.gateway.row(self.refund_no)
        self.assertEqual((3, 1), (row["sent_count"], row["asked_count"]))

    def test_concurrent_repetitions_pay_once(self) -> None:
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(self.gateway.refund, [self.refund_no] * 64))
        self.assertEqual([answers[0]] * 64, answers)
        self.assert_paid_once(self.refund_no)

    def test_same_number_for_something_else_is_a_conflict(self) -> None:
        self.gateway.refund(self.refund_no)
        for change in ({"amount": 3201}, {"payment_id": "other"}, {"currency": "USD"}):
            status, answer = self.gateway.refund(self.refund_no, **change)
            self.assertEqual(409, status)
            self.assertIn("another", answer["error"])
        self.assert_paid_once(self.refund_no)
        # What does not decide about the money may differ.
        self.assertEqual(200, self.gateway.refund(self.refund_no, transaction_id=None)[0])

    def test_what_is_not_known_is_404(self) -> None:
        status, answer = self.gateway.query("nobody-R1")
        self.assertEqual(404, status)
        self.assertIn("nobody-R1", answer["error"])

    def test_path_is_percent_decoded_strictly(self) -> None:
        for refund_no in ("a|b*c-R1", "a@b_c-R1"):
            self.assertEqual(200, self.gateway.refund(refund_no)[0])
            self.assertEqual(200, self.gateway.query(refund_no)[0])
            every_byte = "".join(f"%{ord(char):02x}" for char in refund_no)
            self.assertEqual(200, self.gateway.call("GET", f"/refunds/{every_byte}")[0])
        # http.client would refuse some of these itself.
        for target in (
            "/refunds/a|b*c-R1",
            "/refunds/%zz",
            "/refunds/%",
            "/refunds/%ff",
            "refunds",
        ):
            with self.gateway.socket() as client:
                client.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                self.assertTrue(until_closed(client).startswith(b"HTTP/1.1 400 "), target)

    def test_strict_about_every_field(self) -> None:
        wrong_values: dict[str, list[typing.Any]] = {
            "payment_id": ["", None, 1, "a b", "x" * 57],
            "order_id": ["", None, 1, "\x00", "\ud800"],
            "transaction_id": ["", 1],
            "amount": [0, -1, 1.0, "3200", True, None, 2**53],
            "currency": ["", None, "cny", "CNYX", 156],
            "reason": ["", None, 1],
        }
        self.assertEqual(demand("a-R1").keys() - {"refund_no"}, wrong_values.keys())
        for name, values in wrong_values.items():
            for value in values:
                with self.subTest(field=name, value=value):
                    status, answer = self.post(demand("strict-R1", **{name: value}))
                    self.assertEqual(400, status)
                    self.assertIn("error", answer)
            with self.subTest(missing=name):
                fields = demand("strict-R1")
                del fields[name]
                self.assertEqual(400, self.post(fields)[0])
        self.assertFalse(self.gateway.knows("strict-R1"))
        self.assertEqual(200, self.post(demand("strict-R1", transaction_id=None))[0])

    def test_strict_about_the_refund_no(self) -> None:
        for refund_no in ("", "a b", "a/b", "x" * 65, "\x7f"):
            with self.subTest(refund_no=refund_no):
                fields = demand(refund_no, payment_id="p")
                self.assertEqual(400, self.post(fields, refund_headers(refund_no))[0])
        for refund_no in (None, 1):
            fields = {**demand("strict-R5"), "refund_no": refund_no}
            self.assertEqual(400, self.post(fields, refund_headers("strict-R5"))[0])
        longest = demand("x" * 64, payment_id="p")
        self.assertEqual(200, self.post(longest, refund_headers("x" * 64))[0])

    def test_strict_about_the_body(self) -> None:
        good = json.dumps(demand("strict-R2"))
        bodies = [b"", b"{}", b"[]", b"null", b"{", b"\xff", b"[" * 100_000]
        bodies += [good.replace("{", '{"reason":"late",', 1).encode()]
        bodies += [json.dumps({**demand("strict-R2"), "comment": "new"}).encode()]
        for body in bodies:
            with self.subTest(body=body[:80]):
                self.assertEqual(400, self.post(body)[0])
        self.assertFalse(self.gateway.knows("strict-R2"))

    def test_strict_about_headers(self) -> None:
        good = refund_headers("strict-R3")
        for change in (
            {"Content-Type": "text/plain"},
            {"Content-Type": "application/jsonp"},
            {"Content-Type": ""},
            {"Idempotency-Key": "strict-R4"},
            {"Idempotency-Key": ""},
            {"Idempotency-Key": "strict-R3, strict-R3"},
        ):
            with self.subTest(change=change):
                status, _ = self.post(demand("strict-R3"), {**good, **change})
                self.assertEqual(400, status)
        self.assertFalse(self.gateway.knows("strict-R3"))
        charset = {"Content-Type": "application/json; charset=utf-8"}
        self.assertEqual(200, self.post(demand("strict-R3"), {**good, **charset})[0])

    def test_other_paths_and_methods(self) -> None:
        for method, path, status in (
            ("GET", "/refunds", 405),
            ("POST", "/refunds/a-R1", 405),
            ("DELETE", "/refunds/a-R1", 405),
            ("GET", "/", 404),
            ("POST", "/refunds/a/b", 404),
            ("GET", "/refunds/a-R1?x=1", 400),
            ("GET", "/refunds/", 400),
            ("GET", "/refunds/a%2Fb", 400),
        ):
            with self.subTest(method=method, path=path):
                self.assertEqual(status, self.gateway.json(method, path)[0])

    def post(self, body: typing.Any, headers: dict[str, str] | None = None) -> Answer:
        return self.gateway.json("POST", "/refunds", body, headers or refund_headers("strict-R1"))


class HttpTest(GatewayTest):
    def test_connection_is_kept_and_counted(self) -> None:
        before = self.gateway.admin("connections")
        connection = self.gateway.connect()
        for number in range(5):
            connection.request("GET", f"/refunds/kept-R{number}")
            connection.getresponse().read()
        during = self.gateway.admin("connections")
        connection.close()
        self.assertEqual(before["accepted"] + 1, during["accepted"])
        self.assertEqual(before["open"] + 1, during["open"])
        self.assertEqual(before["admin"] + 1, during["admin"])
        used = {self.gateway.requests(f"kept-R{number}")[0]["connection"] for number in range(5)}
        self.assertEqual(1, len(used))

    def test_pipelined_requests_are_answered_in_order(self) -> None:
        with self.gateway.socket() as client:
            last = b"GET /refunds/p-R2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            client.sendall(
                raw_refund("p-R1") + b"GET /refunds/p-R1 HTTP/1.1\r\nHost: x\r\n\r\n" + last
            )
            answers = until_closed(client)
        self.assertEqual([b"200", b"200", b"404"], re.findall(rb"HTTP/1.1 (\d+)", answers))

    def test_request_may_arrive_byte_by_byte(self) -> None:
        with self.gateway.socket() as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in raw_refund(self.refund_no):
                client.sendall(bytes((byte,)))
            self.assertTrue(client.recv(65536).startswith(b"HTTP/1.1 200 "))

    def test_expect_100_continue(self) -> None:
        head, body = raw_refund(self.refund_no).split(b"\r\n\r\n")
        with self.gateway.socket() as client:
            client.sendall(head + b"\r\nExpect: 100-continue\r\n\r\n")
            self.assertEqual(b"HTTP/1.1 100 Continue\r\n\r\n", client.recv(65536))
            client.sendall(body)
            self.assertTrue(client.recv(65536).startswith(b"HTTP/1.1 200 "))

    def test_http_1_0_is_closed_after_the_answer(self) -> None:
        with self.gateway.socket() as client:
            client.sendall(b"GET /refunds/a-R1 HTTP/1.0\r\n\r\n")
            self.assertTrue(until_closed(client).startswith(b"HTTP/1.1 404 "))

    def test_malformed_requests_are_refused_and_counted(self) -> None:
        before = self.gateway.admin("connections")["malformed_requests"]
        get = b"GET /refunds/a-R1 HTTP/1.1\r\nHost: x\r\n"
        requests = {
            b"nonsense\r\n\r\n": 400,
            b"GET /refunds/a-R1 HTTP/1.1\r\n\r\n": 400,
            b"GET /refunds/a-R1 HTTP/2.0\r\nHost: x\r\n\r\n": 505,
            get + b"no colon\r\n\r\n": 400,
            get + b"Content-Length: x\r\n\r\n": 400,
            get + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n": 400,
            get + b"Content-Length: 99999999999\r\n\r\n": 413,
            get + b"Transfer-Encoding: chunked\r\n\r\n": 411,
            get + b"X: " + b"x" * 40_000: 431,
        }
        for request, status in requests.items():
            with self.subTest(request=request[:80]), self.gateway.socket() as client:
                client.sendall(request)
                self.assertTrue(client.recv(65536).startswith(b"HTTP/1.1 %d " % status))
        after = self.gateway.admin("connections")["malformed_requests"]
        self.assertEqual(before + len(requests), after)

    def test_bound_to_loopback_only(self) -> None:
        with open("/proc/net/tcp", encoding="ascii") as table:
            listening = [line.split()[1] for line in table if line.split()[3] == "0A"]
        here = [address for address in listening if address.endswith(f":{self.gateway.port:04X}")]
        self.assertEqual([f"0100007F:{self.gateway.port:04X}"], here)

    def test_https(self) -> None:
        certificate, key = (os.path.join(self.directory, name) for name in ("cert.pem", "key.pem"))
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
        command += " -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
        subprocess.run(
            [*command.split(), "-keyout", key, "-out", certificate], capture_output=True, check=True
        )
        gateway = self.start("--tls-cert", certificate, "--tls-key", key, "--fault", "redirect")
        gateway.trust(certificate)
        self.assertIn(f"https://127.0.0.1:{gateway.port}", gateway.ready_line)
        _, headers, _ = gateway.call("GET", "/refunds/a-R1")
        self.assertTrue(headers["Location"].startswith("https://"))
        gateway.faults({"fault": "drop_after", "how": "reset", "on": "refund"})
        with self.assertRaises(
            (ConnectionResetError, http.client.RemoteDisconnected, ssl.SSLError)
        ):
            gateway.refund("a-R1")
        self.assertEqual(200, gateway.query("a-R1")[0])
        self.assertEqual("", gateway.errors())


class AuthenticationTest(GatewayTest):
    options = ("--bearer-token", "s3cret", "--signing-secret", SECRET)
    bearer = {"Authorization": "Bearer s3cret"}

    def test_published_test_vector(self) -> None:
        key = standard_webhooks.key_of_secret(SECRET)
        signature = standard_webhooks.sign(
            key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
        )
        self.assertEqual("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", signature)

    def test_signed_requests_are_accepted(self) -> None:
        body = json.dumps(demand("signed-R1")).encode()
        headers = {**refund_headers("signed-R1"), **self.bearer, **self.signed(body)}
        self.assertEqual(200, self.gateway.json("POST", "/refunds", body, headers)[0])
        headers = {**self.bearer, **self.signed(b"")}
        self.assertEqual(200, self.gateway.json("GET", "/refunds/signed-R1", None, headers)[0])

    def test_any_of_several_signatures_is_enough(self) -> None:
        headers = self.signed(b"")
        headers["webhook-signature"] = f"v1a,xyz v1,AAAA {headers['webhook-signature']}"
        headers.update(self.bearer)
        self.assertEqual(404, self.gateway.json("GET", "/refunds/nobody-R1", None, headers)[0])

    def test_wrong_signatures_are_refused_and_counted(self) -> None:
        before = self.gateway.summary()["signature_failures"]
        now = int(time.time())
        wrong = [{}, self.signed(b"other body"), self.signed(b"", now - 310)]
        wrong += [self.signed(b"", now + 310), {**self.signed(b""), "webhook-id": "other"}]
        wrong += [{**self.signed(b""), "webhook-timestamp": str(now - 1)}]
        wrong += [{**self.signed(b""), "webhook-timestamp": "now"}]
        wrong += [{**self.signed(b""), "webhook-signature": "v1,"}]
        for headers in wrong:
            with self.subTest(headers=headers):
                headers = {**headers, **self.bearer}
                self.assertEqual(401, self.gateway.json("GET", "/refunds/a-R1", None, headers)[0])
        body = json.dumps(demand("unsigned-R1")).encode()
        headers = {**refund_headers("unsigned-R1"), **self.bearer, **self.signed(body + b" ")}
        self.assertEqual(401, self.gateway.json("POST", "/refunds", body, headers)[0])
        self.assertFalse(self.gateway.knows("unsigned-R1"))
        self.assertEqual([401], [row["status"] for row in self.gateway.requests("unsigned-R1")])
        after = self.gateway.summary()["signature_failures"]
        self.assertEqual(before + len(wrong) + 1, after)

    def test_wrong_bearer_tokens_are_refused_and_counted(self) -> None:
        before = self.gateway.summary()["bearer_failures"]
        for authorization in ({}, {"Authorization": "s3cret"}, {"Authorization": "Bearer other"}):
            headers = {**self.signed(b""), **authorization}
            self.assertEqual(401, self.gateway.json("GET", "/refunds/a-R1", None, headers)[0])
        self.assertEqual(before + 3, self.gateway.summary()["bearer_failures"])

    @staticmethod
    def signed(body: bytes, timestamp_s: int | None = None) -> dict[str, str]:
        timestamp_s = int(time.time()) if timestamp_s is None else timestamp_s
        key = standard_webhooks.key_of_secret(SECRET)
        return {
            "webhook-id": "msg_1",
            "webhook-timestamp": str(timestamp_s),
            "webhook-signature": standard_webhooks.sign(key, "msg_1", timestamp_s, body),
        }


class PaymentsTest(GatewayTest):
    def test_balance(self) -> None:
        gateway = self.start()
        payments = [self.payment("p1", 3200), self.payment("p2", 3200), self.payment("p3", 100)]
        payments[2]["currency"] = "USD"
        gateway.admin("payments", payments)
        gateway.admin("payments", payments[0])
        gateway.refund("p2-R1")
        gateway.refund("stranger-R1", amount=7)
        totals = gateway.summary()
        self.assertEqual({"CNY": 6400, "USD": 100}, totals["total_in"])
        self.assertEqual({"CNY": 3207}, totals["total_refunded"])
        self.assertEqual({"CNY": 3200, "USD": 100}, totals["kept"])
        self.assertEqual(
            (3, 2, 1), tuple(totals[k] for k in ("payments", "refunds", "unknown_payment"))
        )
        self.assertEqual(1, gateway.row("stranger-R1")["unknown_payment"])
        self.assertEqual(0, gateway.row("p2-R1")["unknown_payment"])
        gateway.admin("payments", self.payment("stranger", 7))
        self.assertEqual(0, gateway.row("stranger-R1")["unknown_payment"])

    def test_refunds_cannot_exceed_the_payment(self) -> None:
        self.gateway.admin("payments", self.payment("over", 3200))
        before = self.gateway.summary()["over_refund_refused"]
        self.assertEqual(200, self.gateway.refund("over-Q1", amount=1200)[0])
        self.assertEqual(422, self.gateway.refund("over-Q2", amount=2001)[0])
        self.assertEqual(200, self.gateway.refund("over-Q3", amount=2000)[0])
        self.assertEqual(422, self.gateway.refund("over-Q4", amount=1)[0])
        self.assertEqual(200, self.gateway.refund("over-Q1", amount=1200)[0])
        totals = self.gateway.summary()
        self.assertEqual(before + 2, totals["over_refund_refused"])
        self.assertIn("over", totals["payments_refunded_twice"])
        self.assertEqual([], totals["payments_over_refunded"])

    def test_failed_refund_frees_the_money_and_processing_holds_it(self) -> None:
        self.gateway.admin("payments", self.payment("held", 3200))
        self.gateway.admin("mode", {"mode": "processing"})
        self.addCleanup(self.gateway.admin, "mode", {"mode": "immediate"})
        self.assertEqual(202, self.gateway.refund("held-R1")[0])
        self.assertEqual(422, self.gateway.refund("held-R2")[0])
        self.gateway.admin("settle", {"refund_no": "held-R1", "state": "failed"})
        self.assertEqual(202, self.gateway.refund("held-R2")[0])

    def test_currency_must_be_the_payments(self) -> None:
        self.gateway.admin("payments", self.payment("yuan", 3200))
        self.assertEqual(422, self.gateway.refund("yuan-R1", currency="USD")[0])

    def test_money_beyond_what_was_paid_is_convicted(self) -> None:
        gateway = self.start()
        gateway.refund("late-news-R1")
        gateway.admin("payments", self.payment("late-news", 3199))
        self.assertEqual(["late-news"], gateway.summary()["payments_over_refunded"])

    def test_strict_payments(self) -> None:
        gateway = self.start("--strict-payments")
        self.assertEqual(400, gateway.refund("stranger-R1")[0])
        gateway.admin("payments", self.payment("known", 3200))
        self.assertEqual(200, gateway.refund("known-R1")[0])
        self.assertEqual(1, gateway.summary()["unknown_payment_refused"])

    def test_payment_taken_twice_counts_twice(self) -> None:
        first, second = self.payment("twice", 100), self.payment("twice", 100)
        second["transaction_id"] = "another"
        before = self.gateway.summary()["total_in"].get("CNY", 0)
        self.gateway.admin("payments", [first, second])
        self.assertEqual(before + 200, self.gateway.summary()["total_in"]["CNY"])
        changed = {**first, "amount": 101}
        self.assertEqual(409, self.gateway.json("POST", "/admin/payments", changed)[0])

    def test_bad_payments_are_refused_whole(self) -> None:
        good = self.payment("not-added", 1)
        for change in (
            {"amount": 0},
            {"amount": 1.5},
            {"currency": "yuan"},
            {"payment_id": ""},
            {"transaction_id": None},
            {"extra": 1},
            {"amount": 2**53},
        ):
            with self.subTest(change=change):
                payments = [good, {**good, **change}]
                self.assertEqual(400, self.gateway.json("POST", "/admin/payments", payments)[0])
        self.assertEqual(200, self.gateway.refund("not-added-R1", amount=5)[0])

    def test_paying_twice_is_possible_beyond_the_horizon_and_convicted(self) -> None:
        gateway = self.start("--idempotency-horizon-ms", "0")
        gateway.refund("a-R1")
        self.assertEqual(0, gateway.summary()["duplicates"])
        gateway.query("a-R1")
        self.assertEqual(0, gateway.summary()["duplicates"])
        gateway.refund("a-R1")
        totals = gateway.summary()
        self.assertEqual((1, ["a-R1"]), (totals["duplicates"], totals["duplicate_refund_nos"]))
        self.assertEqual({"CNY": 6400}, totals["total_refunded"])
        within = self.start("--idempotency-horizon-ms", "3600000")
        within.refund("a-R1")
        within.refund("a-R1")
        self.assertEqual(0, within.summary()["duplicates"])

    @staticmethod
    def payment(payment_id: str, amount: int) -> Fields:
        return {
            "payment_id": payment_id,
            "amount": amount,
            "currency": "CNY",
            "transaction_id": f"tx-{payment_id}",
        }


class ProcessingTest(GatewayTest):
    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.gateway.admin, "mode", {"mode": "immediate"})

    def test_until_settled_by_hand(self) -> None:
        self.gateway.admin("mode", {"mode": "processing"})
        status, answer = self.gateway.refund(self.refund_no)
        self.assertEqual((202, "processing"), (status, answer["status"]))
        self.assertEqual((202, answer), self.gateway.refund(self.refund_no))
        self.assertEqual((200, answer), self.gateway.query(self.refund_no))
        self.assertEqual(0, self.gateway.row(self.refund_no)["paid_out_count"])
        self.settle("succeeded")
        self.assertEqual("succeeded", self.gateway.query(self.refund_no)[1]["status"])
        self.assertEqual(200, self.gateway.refund(self.refund_no)[0])
        self.assert_paid_once(self.refund_no)

    def test_money_that_bounces_came_back(self) -> None:
        self.gateway.refund(self.refund_no)
        row = self.settle("failed", error="the account is closed")
        self.assertEqual(("failed", 0), (row["state"], row["paid_out_count"]))
        answer = self.gateway.query(self.refund_no)[1]
        self.assertEqual(("failed", "the account is closed"), (answer["status"], answer["error"]))
        self.assertEqual((200, answer), self.gateway.refund(self.refund_no))
        self.settle("succeeded")
        self.assert_paid_once(self.refund_no)

    def test_after_a_time(self) -> None:
        self.gateway.admin("mode", {"mode": "processing", "after_ms": 150, "http_status": 200})
        status, answer = self.gateway.refund(self.refund_no)
        self.assertEqual((200, "processing"), (status, answer["status"]))
        row = wait_for(
            lambda: (row := self.gateway.row(self.refund_no))["settled_at"] and row,
            "settled by time",
        )
        self.assertGreaterEqual(row["settled_at"] - row["accepted_at"], 0.15)
        self.assert_paid_once(self.refund_no)

    def test_after_queries(self) -> None:
        mode = {"mode": "processing", "after_queries": 2, "outcome": "failed"}
        self.gateway.admin("mode", mode)
        self.gateway.refund(self.refund_no)
        words = [self.gateway.query(self.refund_no)[1]["status"] for _ in range(4)]
        self.assertEqual(["processing", "processing", "failed", "failed"], words)
        self.assertEqual(0, self.gateway.row(self.refund_no)["paid_out_count"])

    def test_created_is_possible(self) -> None:
        self.gateway.admin("mode", {"mode": "immediate", "http_status": 201})
        status, answer = self.gateway.refund(self.refund_no)
        self.assertEqual((201, "succeeded"), (status, answer["status"]))

    def test_settles_also_after_a_restart(self) -> None:
        directory = tempfile.mkdtemp(prefix="stand_in_gateway.")
        self.addCleanup(shutil.rmtree, directory)
        gateway = self.start_in(directory, "--mode", '{"mode":"processing","after_ms":400}')
        gateway.refund("a-R1")
        gateway.stop(signal.SIGKILL)
        gateway = self.start_in(directory, port=gateway.port)
        wait_for(lambda: gateway.summary()["succeeded"] == 1, "settled after the restart")

    def test_bad_modes_and_settlements_are_refused(self) -> None:
        modes = [{}, [], {"mode": "x"}, {"mode": "immediate", "after_ms": 1}]
        modes += [
            {"mode": "processing", "http_status": 500},
            {"mode": "processing", "after_ms": -1},
        ]
        modes += [{"mode": "processing", "outcome": "x"}, {"mode": "processing", "afterms": 1}]
        for mode in modes:
            self.assertEqual(400, self.gateway.json("POST", "/admin/mode", mode)[0], mode)
        self.assertEqual("immediate", self.gateway.admin("mode")["mode"])
        for settlement in ({}, {"refund_no": "a-R1", "state": "processing"}, {"state": "failed"}):
            self.assertEqual(400, self.gateway.json("POST", "/admin/settle", settlement)[0])
        unknown = {"refund_no": "nobody-R1", "state": "failed"}
        self.assertEqual(404, self.gateway.json("POST", "/admin/settle", unknown)[0])

    def settle(self, state: str, **more: str) -> Fields:
        settlement = {"refund_no": self.refund_no, "state": state, **more}
        row: Fields = self.gateway.admin("settle", settlement)
        return row


class FaultsTest(GatewayTest):
    """Each fault once over a real socket: what the client sees, and what the ledger says."""

    def assert_acted(self, acted: bool) -> None:
        """Whether the money moved by this fault; afterwards the gateway is good again."""
        if acted:
            self.assert_paid_once(self.refund_no)
        else:
            self.assertFalse(self.gateway.knows(self.refund_no))
        self.gateway.faults()
        self.assertEqual(200 if acted else 404, self.gateway.query(self.refund_no)[0])
        self.assertEqual("succeeded", self.gateway.refund(self.refund_no)[1]["status"])
        self.assert_paid_once(self.refund_no)

    def assert_filed(self, fault: str, status: int | None) -> None:
        first = self.gateway.requests(self.refund_no)[0]
        self.assertEqual((fault, status), (first["fault"], first["status"]))

    def test_delay(self) -> None:
        for when, acted_early in (("before", False), ("after", True)):
            refund_no = f"delayed-{when}-R1"
            self.gateway.faults({"fault": "delay", "ms": 300, "when": when})
            self.assertEqual(200, self.gateway.refund(refund_no)[0])
            request, accepted_at = self.gateway.requests(refund_no)[0], self.accepted_at(refund_no)
            before_s, after_s = accepted_at - request["at"], request["answered_at"] - accepted_at
            self.assertGreaterEqual(after_s if acted_early else before_s, 0.29)

    def test_delayed_request_acts_though_its_sender_is_gone(self) -> None:
        self.gateway.faults({"fault": "delay", "ms": 500})
        with self.gateway.socket() as client:
            client.sendall(raw_refund(self.refund_no))
        wait_for(lambda: self.gateway.knows(self.refund_no), "acted without its sender")
        self.assert_filed("delay", None)

    def test_trickle(self) -> None:
        self.gateway.faults({"fault": "trickle", "interval_ms": 4})
        pieces: list[bytes] = []
        with self.gateway.socket() as client:
            client.sendall(raw_refund(self.refund_no))
            while not b"".join(pieces).endswith(b"}"):
                pieces.append(client.recv(65536))
        self.assertGreater(len(pieces), 20)
        self.assertTrue(b"".join(pieces).startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertIn(b'"status":"succeeded"', b"".join(pieces))
        self.assert_acted(True)

    def test_trickle_ends_with_its_client(self) -> None:
        self.gateway.faults({"fault": "trickle", "interval_ms": 5})
        with self.gateway.socket() as client:
            client.sendall(raw_refund(self.refund_no))
            self.assertEqual(b"H", client.recv(1))
        self.wait_for_none_in_flight()

    def test_hang(self) -> None:
        for fault, acted in (("hang", False), ("hang_after", True)):
            refund_no = self.refund_no = f"{fault}-R1"
            self.gateway.faults({"fault": fault})
            with self.gateway.socket() as client:
                client.sendall(raw_refund(refund_no))
                self.gateway.admin("wait", what="in_flight", refund_no=refund_no)
                client.settimeout(0.2)
                self.assertRaises(TimeoutError, client.recv, 1)
            self.wait_for_none_in_flight()
            self.assert_filed(fault, None)
            self.assert_acted(acted)

    def test_429_and_503(self) -> None:
        for fault in ("429", "503"):
            for parameters, wait_s in (({}, 1), ({"retry_after_s": 7}, 7)):
                self.gateway.faults({"fault": fault, **parameters})
                status, headers, body = self.post()
                self.assertEqual((int(fault), str(wait_s)), (status, headers["Retry-After"]))
                self.assertIn("error", json.loads(body))
            self.gateway.faults({"fault": fault, "retry_after_s": None})
            self.assertNotIn("Retry-After", self.post()[1])
            self.gateway.faults({"fault": fault, "retry_after_s": 60, "form": "date"})
            header = self.post()[1]["Retry-After"]
            self.assertTrue(header.endswith(" GMT"), header)
            wait_s = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
            self.assertTrue(50 < wait_s <= 60, wait_s)
        self.assert_filed("429", 429)
        self.assert_acted(False)

    def test_500_before(self) -> None:
        self.gateway.faults({"fault": "500_before"})
        self.assertEqual(500, self.post()[0])
        self.assert_acted(False)

    def test_500_after(self) -> None:
        self.gateway.faults({"fault": "500_after"})
        self.assertEqual(500, self.post()[0])
        self.assert_filed("500_after", 500)
        self.assert_acted(True)

    def test_408(self) -> None:
        self.gateway.faults({"fault": "408"})
        self.assertEqual(408, self.post()[0])
        self.assert_acted(False)

    def test_4xx(self) -> None:
        self.gateway.faults({"fault": "4xx"})
        self.assertEqual(400, self.post()[0])
        self.gateway.faults({"fault": "4xx", "status": 403, "error": "no contract"})
        status, _, body = self.post()
        self.assertEqual((403, {"error": "no contract"}), (status, json.loads(body)))
        self.assert_acted(False)

    def test_failed(self) -> None:
        self.gateway.faults({"fault": "failed", "error": "account closed"})
        status, _, body = self.post()
        answer = json.loads(body)
        self.assertEqual(
            (200, "failed", "account closed"), (status, answer["status"], answer["error"])
        )
        self.gateway.faults()
        self.assertEqual((200, answer), self.gateway.query(self.refund_no))
        self.assertEqual((200, answer), self.gateway.refund(self.refund_no))
        self.assertEqual(0, self.gateway.row(self.refund_no)["paid_out_count"])

    def test_failed_ends_what_is_processing_but_never_what_succeeded(self) -> None:
        self.gateway.admin("mode", {"mode": "processing"})
        self.addCleanup(self.gateway.admin, "mode", {"mode": "immediate"})
        self.gateway.refund(self.refund_no)
        self.gateway.faults({"fault": "failed", "on": "query"})
        self.assertEqual("failed", self.gateway.query(self.refund_no)[1]["status"])
        self.gateway.admin("settle", {"refund_no": self.refund_no, "state": "succeeded"})
        self.assertEqual("succeeded", self.gateway.query(self.refund_no)[1]["status"])

    def test_forget(self) -> None:
        self.gateway.faults({"fault": "forget"})
        self.assertEqual(200, self.post()[0])
        self.assertEqual(404, self.gateway.query(self.refund_no)[0])
        self.assert_acted(True)

    def test_redirect(self) -> None:
        before = self.gateway.summary()["redirects_followed"]
        self.gateway.faults({"fault": "redirect"})
        status, headers, _ = self.post()
        here = f"http://127.0.0.1:{self.gateway.port}"
        self.assertEqual((302, f"{here}/redirected/refunds"), (status, headers["Location"]))
        self.assertEqual(before, self.gateway.summary()["redirects_followed"])
        self.gateway.call("GET", headers["Location"].removeprefix(here))
        self.assertEqual(before + 1, self.gateway.summary()["redirects_followed"])
        self.gateway.faults({"fault": "redirect", "status": 307, "location": "http://127.0.0.2/"})
        status, headers, _ = self.post()
        self.assertEqual((307, "http://127.0.0.2/"), (status, headers["Location"]))
        self.assert_acted(False)

    def test_drops(self) -> None:
        for fault, acted in (("drop_before", False), ("drop_after", True)):
            for how in ("close", "reset"):
                self.refund_no = f"{fault}-{how}-R1"
                self.gateway.faults({"fault": fault, "how": how})
                with self.subTest(fault=fault, how=how), self.gateway.socket() as client:
                    client.sendall(raw_refund(self.refund_no))
                    if how == "close":
                        self.assertEqual(b"", client.recv(1))
                    else:
                        self.assertRaises(ConnectionResetError, client.recv, 1)
                    self.assert_filed(fault, None)
                    self.assert_acted(acted)

    def test_truncated(self) -> None:
        self.gateway.faults({"fault": "truncated", "missing_bytes": 9})
        with self.assertRaises(http.client.IncompleteRead) as caught:
            self.post()
        self.assertEqual("succeeded", json.loads(caught.exception.partial)["status"])
        self.assertEqual(9, caught.exception.expected)
        self.assert_acted(True)

    def test_garbage(self) -> None:
        for acted in (True, False):
            self.refund_no = f"garbage-{acted}-R1"
            self.gateway.faults({"fault": "garbage", "acted": acted})
            status, _, body = self.post()
            self.assertEqual(200, status)
            self.assertRaises(ValueError, json.loads, body)
            self.assert_acted(acted)

    def test_huge(self) -> None:
        for declared in (False, True):
            self.refund_no = f"huge-{declared}-R1"
            self.gateway.faults({"fault": "huge", "megabytes": 3, "declared": declared})
            status, headers, body = self.post()
            self.assertEqual((200, 3 * 1024 * 1024), (status, len(body)))
            self.assertEqual(str(len(body)) if declared else None, headers["Content-Length"])
            self.assertEqual("succeeded", json.loads(body)["status"])
            self.assert_acted(True)

    def test_huge_ends_with_its_client(self) -> None:
        self.gateway.faults({"fault": "huge", "megabytes": 4096})
        with self.gateway.socket() as client:
            client.sendall(raw_refund(self.refund_no))
            client.recv(65536)
        self.wait_for_none_in_flight()
        self.assert_acted(True)

    def test_wrong_status_word(self) -> None:
        self.gateway.faults({"fault": "wrong_status_word"})
        self.assertEqual("weird", json.loads(self.post()[2])["status"])
        self.gateway.faults({"fault": "wrong_status_word", "word": "SUCCEEDED"})
        self.assertEqual("SUCCEEDED", self.gateway.query(self.refund_no)[1]["status"])
        self.assert_acted(True)

    def test_wrong_refund_no(self) -> None:
        self.gateway.faults({"fault": "wrong_refund_no"})
        answer = json.loads(self.post()[2])
        self.assertEqual(
            ("succeeded", "of-someone-else-R1"), (answer["status"], answer["refund_no"])
        )
        self.assert_acted(True)

    def test_invalid_requests_meet_no_fault(self) -> None:
        self.gateway.faults({"fault": "500_after", "count": 1})
        self.assertEqual(400, self.gateway.refund(self.refund_no, amount=0)[0])
        self.assertEqual(0, self.gateway.admin("faults")[0]["applied"])
        self.assertEqual(500, self.gateway.refund(self.refund_no)[0])

    def accepted_at(self, refund_no: str) -> float:
        accepted_at: float = self.gateway.row(refund_no)["accepted_at"]
        return accepted_at

    def post(self) -> tuple[int, http.client.HTTPMessage, bytes]:
        return self.gateway.call(
            "POST", "/refunds", demand(self.refund_no), refund_headers(self.refund_no)
        )

    def wait_for_none_in_flight(self) -> None:
        wait_for(lambda: self.gateway.admin("connections")["in_flight"] == 0, "none in flight")


class RulesTest(GatewayTest):
    def statuses(self, *refund_nos: str) -> list[int]:
        return [self.gateway.refund(refund_no)[0] for refund_no in refund_nos]

    def test_on(self) -> None:
        self.gateway.faults(
            {"fault": "4xx", "on": "refund"}, {"fault": "500_before", "on": "query"}
        )
        self.assertEqual([400], self.statuses("on-R1"))
        self.assertEqual(500, self.gateway.query("on-R1")[0])

    def test_first_rule_that_applies(self) -> None:
        rules = [{"fault": "4xx", "status": 418, "count": 2}, {"fault": "500_after", "count": 1}]
        self.gateway.faults(*rules)
        self.assertEqual([418, 418, 500, 200], self.statuses(*["first-R1"] * 4))
        self.assertEqual([2, 1], [rule["applied"] for rule in self.gateway.admin("faults")])

    def test_match(self) -> None:
        self.gateway.faults(
            {"fault": "4xx", "match": "odd"}, {"fault": "500_before", "match": "^a.*9$"}
        )
        self.assertEqual([400, 200, 500, 200], self.statuses("an-odd-R1", "m-R1", "ab-R9", "ba-R9"))

    def test_probability_repeats_with_the_seed(self) -> None:
        rule = {"fault": "500_after", "probability": 0.3}
        names = [f"probable-R{number}" for number in range(200)]
        runs = []
        for seed in ("1", "1", "2"):
            gateway = self.start("--seed", seed, "--fault", json.dumps(rule))
            runs.append([gateway.refund(refund_no)[0] for refund_no in names])
        self.assertEqual(runs[0], runs[1])
        self.assertNotEqual(runs[0], runs[2])
        self.assertEqual({200, 500}, set(runs[0]))
        self.assertTrue(30 <= runs[0].count(500) <= 90, runs[0].count(500))
        self.gateway.faults({"fault": "4xx", "probability": 0})
        self.assertEqual([200], self.statuses("never-R1"))

    def test_faults_on_the_command_line(self) -> None:
        rule = '{"fault":"4xx","status":402,"count":1}'
        gateway = self.start("--fault", rule, "--fault", "500_before")
        self.assertEqual([402, 500], [gateway.refund("a-R1")[0] for _ in range(2)])

    def test_bad_rules_are_refused_and_change_nothing(self) -> None:
        self.gateway.faults({"fault": "408"})
        for rule in (
            "hang",
            {},
            {"fault": "unknown"},
            {"fault": "hang", "ms": 1},
            {"fault": "hang", "on": "both"},
            {"fault": "hang", "probability": 1.1},
            {"fault": "hang", "count": -1},
            {"fault": "hang", "match": "("},
            {"fault": "delay"},
            {"fault": "delay", "ms": "1"},
            {"fault": "429", "form": "hours"},
            {"fault": "4xx", "status": 500},
            {"fault": "redirect", "status": 304},
            {"fault": "garbage", "acted": 1},
            {"fault": "forget", "on": "refund"},
        ):
            with self.subTest(rule=rule):
                status, answer = self.gateway.json("POST", "/admin/faults", [rule])
                self.assertEqual(400, status)
                self.assertIn("error", answer)
        self.assertEqual(400, self.gateway.json("POST", "/admin/faults", {"fault": "hang"})[0])
        self.assertEqual(["408"], [rule["fault"] for rule in self.gateway.admin("faults")])

    def test_readme_names_every_fault_and_parameter(self) -> None:
        with open(os.path.join(HERE, "README.md"), encoding="utf-8") as file:
            rows = re.findall(r"^\| `([0-9a-z_]+)` \| (.*) \|$", file.read(), re.MULTILINE)
        described = dict(rows)
        for name, fault in fault_behaviours.FAULTS.items():
            self.assertIn(name, described)
            for parameter in fault.parameters:
                self.assertIn(f"`{parameter}`", described[name], name)


class AdminTest(GatewayTest):
    def test_wait_returns_when_enough_were_seen(self) -> None:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(
                self.gateway.admin,
                "wait",
                what="requests",
                at_least=2,
                refund_no="w-R1",
                on="query",
            )
            self.gateway.refund("w-R1")
            self.gateway.query("other-R1")
            self.gateway.query("w-R1")
            self.assertFalse(waiting.done())
            self.gateway.query("w-R1")
            self.assertEqual({"reached": True, "requests": 2}, waiting.result(DEADLINE_S))

    def test_wait_times_out(self) -> None:
        path = "/admin/wait?what=requests&at_least=1&refund_no=nobody&timeout_ms=50"
        self.assertEqual((504, {"reached": False, "requests": 0}), self.gateway.json("GET", path))

    def test_many_in_flight(self) -> None:
        self.gateway.faults({"fault": "hang"})
        clients = [self.gateway.socket() for _ in range(20)]
        for number, client in enumerate(clients):
            client.sendall(raw_refund(f"many-R{number}"))
        self.gateway.admin("wait", what="in_flight", at_least=20)
        self.assertGreaterEqual(self.gateway.admin("connections")["max_in_flight"], 20)
        for client in clients:
            client.close()
        wait_for(lambda: self.gateway.admin("connections")["in_flight"] == 0, "all have left")

    def test_requests_show_times_headers_and_bodies(self) -> None:
        before = time.time()
        self.gateway.refund(self.refund_no)
        self.gateway.query(self.refund_no)
        refund, query = self.gateway.requests(self.refund_no)
        self.assertEqual(
            ("POST", "/refunds", "refund"), (refund["method"], refund["path"], refund["kind"])
        )
        self.assertEqual(self.refund_no, refund["headers"]["idempotency-key"])
        self.assertEqual(demand(self.refund_no), json.loads(refund["body"]))
        self.assertEqual(("GET", "query", 200), (query["method"], query["kind"], query["status"]))
        times = [before, refund["at"], refund["answered_at"], query["at"], query["answered_at"]]
        self.assertEqual(sorted(times), times)

    def test_bad_commands_are_refused(self) -> None:
        for method, path, body, status in (
            ("GET", "/admin/", None, 404),
            ("GET", "/admin/nothing", None, 404),
            ("DELETE", "/admin/faults", None, 404),
            ("POST", "/admin/faults", b"{", 400),
            ("GET", "/admin/wait?what=money", None, 400),
            ("GET", "/admin/wait?what=requests&at_least=x", None, 400),
            ("GET", "/admin/wait?what=requests&on=x", None, 400),
            ("GET", "/admin/wait?what=requests&at_last=1", None, 400),
            ("GET", "/admin/ledger?refund_no=nobody-R1", None, 404),
            ("POST", "/admin/refuse", {"ms": -1}, 400),
            ("POST", "/admin/refuse", [], 400),
        ):
            with self.subTest(method=method, path=path):
                self.assertEqual(status, self.gateway.json(method, path, body)[0])

    def test_refuse_for_a_time(self) -> None:
        kept = self.gateway.socket()
        kept.sendall(b"GET /refunds/a-R1 HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertTrue(kept.recv(65536))
        self.gateway.admin("refuse", {"ms": 1000})
        self.assertRaises(ConnectionRefusedError, self.gateway.socket)
        self.assertRaises(ConnectionResetError, kept.recv, 1)
        kept.close()
        self.wait_until_listening()

    def test_refuse_until_the_signal(self) -> None:
        admin = self.gateway.connect()
        admin.request("POST", "/admin/refuse", "{}")
        admin.getresponse().read()
        self.assertRaises(ConnectionRefusedError, self.gateway.socket)
        # The administrator's own connection stays.
        admin.request("GET", "/admin/connections")
        self.assertEqual(0, json.loads(admin.getresponse().read())["open"])
        admin.close()
        self.gateway.process.send_signal(signal.SIGUSR1)
        self.wait_until_listening()

    def wait_until_listening(self) -> None:
        def is_listening() -> bool:
            try:
                self.gateway.socket().close()
            except ConnectionRefusedError:
                return False
            return True

        wait_for(is_listening, "listening again")
        self.assertEqual(404, self.gateway.query("nobody-R1")[0])


class ProcessTest(GatewayTest):
    def setUp(self) -> None:
        super().setUp()
        self.own_directory = tempfile.mkdtemp(prefix="stand_in_gateway.")
        self.addCleanup(shutil.rmtree, self.own_directory)

    def test_ready_line_and_clean_end(self) -> None:
        gateway = self.start_in(self.own_directory, "--fault", "hang", name="alipay")
        self.assertRegex(
            gateway.ready_line, rf"^stand-in gateway alipay ready at .*:{gateway.port}, "
        )
        with gateway.socket() as client:
            client.sendall(raw_refund("a-R1"))
            gateway.admin("wait", what="in_flight")
            self.assertEqual(0, gateway.stop())
        self.assertFalse(os.path.exists(gateway.port_file))
        self.assertEqual("", gateway.errors())
        self.assertEqual(1, gateway.summary_of_file()["requests_unanswered"])

    def test_what_was_accepted_survives_kill_9(self) -> None:
        gateway = self.start_in(self.own_directory, "--fault", '{"fault":"hang_after","count":1}')
        with gateway.socket() as client:
            client.sendall(raw_refund("a-R1"))
            gateway.admin("wait", what="in_flight")
            wait_for(lambda: gateway.knows("a-R1"), "accepted")
            gateway.stop(signal.SIGKILL)
        self.assertEqual(1, gateway.summary_of_file()["succeeded"])
        again = self.start_in(self.own_directory, port=gateway.port)
        self.assertEqual(gateway.port, again.port)
        self.assertEqual(200, again.query("a-R1")[0])
        self.assertEqual(200, again.refund("a-R1")[0])
        row = again.row("a-R1")
        self.assertEqual((1, 2, 1), (row["paid_out_count"], row["sent_count"], row["asked_count"]))
        again.admin("wait", what="requests", at_least=3, refund_no="a-R1")

    def test_every_answer_before_kill_9_is_in_the_ledger(self) -> None:
        gateway = self.start_in(self.own_directory)

        def refund_until_killed(client_number: int) -> list[str]:
            answered: list[str] = []
            connection = gateway.connect()
            try:
                while True:
                    refund_no = f"kill-{client_number}-{len(answered)}-R1"
                    body = json.dumps(demand(refund_no))
                    connection.request("POST", "/refunds", body, refund_headers(refund_no))
                    self.assertEqual("succeeded", json.load(connection.getresponse())["status"])
                    answered.append(refund_no)
            except (ConnectionError, http.client.HTTPException):
                return answered
            finally:
                connection.close()

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            clients = [pool.submit(refund_until_killed, number) for number in range(8)]
            gateway.admin("wait", what="requests", at_least=500)
            gateway.stop(signal.SIGKILL)
            answered = {refund_no for client in clients for refund_no in client.result(DEADLINE_S)}
        self.assertGreater(len(answered), 400)
        ledger = sqlite3.connect(gateway.ledger_file)
        kept = {row[0] for row in ledger.execute("SELECT refund_no FROM refunds")}
        ledger.close()
        self.assertEqual(set(), answered - kept)

    def test_ledger_command_beside_the_running_gateway(self) -> None:
        gateway = self.start_in(self.own_directory)
        payment = {"payment_id": "a", "amount": 3200, "currency": "CNY", "transaction_id": "t"}
        gateway.admin("payments", payment)
        gateway.refund("a-R1")
        self.assertEqual(gateway.admin("ledger"), gateway.summary_of_file())
        command = [sys.executable, PROGRAM, "ledger", "--ledger", gateway.ledger_file]
        printed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
        self.assertIn("money in      3200 CNY in 1 payments", printed)
        self.assertIn("sent back     3200 CNY in 1 refunds (1 succeeded", printed)
        self.assertIn("kept          0 CNY", printed)
        self.assertIn("paid twice    0 refund numbers", printed)

    def test_two_gateways_side_by_side(self) -> None:
        wechat = self.start_in(self.own_directory, name="wechat")
        alipay = self.start_in(self.own_directory, name="alipay")
        wechat.refund("a-R1")
        self.assertEqual(404, alipay.query("a-R1")[0])
        self.assertEqual(("wechat", "alipay"), (wechat.summary()["name"], alipay.summary()["name"]))

    def test_a_ledger_belongs_to_one_gateway(self) -> None:
        gateway = self.start_in(self.own_directory)
        command = ["serve", "--ledger", gateway.ledger_file, "--name"]
        self.assert_fails("in use", *command, "wechat")
        gateway.stop()
        self.assert_fails("is the ledger of wechat", *command, "alipay")

    def test_generic_and_stripe_need_nothing_but_python(self) -> None:
        modules = "stand_in_gateway, generic_protocol, stripe_protocol, sys"
        code = f"import {modules}; print('Cryptodome' in sys.modules)"
        command = [sys.executable, "-B", "-c", code]
        printed = subprocess.run(command, capture_output=True, check=True, text=True, cwd=HERE)
        self.assertEqual("False\n", printed.stdout)

    def test_mistakes_on_the_command_line(self) -> None:
        ledger = os.path.join(self.own_directory, "ledger")
        good = ["serve", "--name", "wechat", "--ledger", ledger]
        self.assert_fails("--name", "serve", "--ledger", ledger)
        self.assert_fails("--name is", "serve", "--name", "a b", "--ledger", ledger)
        self.assert_fails("there is no fault", *good, "--fault", "unknown")
        self.assert_fails("not JSON", *good, "--fault", "{")
        self.assert_fails("a mode is", *good, "--mode", "later")
        self.assert_fails("whsec_", *good, "--signing-secret", "secret")
        self.assert_fails("is not for --protocol http", *good, "--page-limit", "2")
        stripe = (*good, "--protocol", "stripe")
        self.assert_fails("is not for --protocol stripe", *stripe, "--bearer-token", "x")
        self.assert_fails("loopback", *stripe, "--notify-url", "http://192.0.2.1/")
        self.assert_fails("No such file", *good, "--protocol", "wechat", "--keys", f"{ledger}.keys")
        self.assert_fails("not base64", *good, "--signing-secret", "whsec_!")
        self.assert_fails("belong together", *good, "--tls-cert", "x")
        self.assert_fails("cannot be read", *good, "--tls-cert", "/x", "--tls-key", "/x")
        self.assert_fails("in use", *good, "--port", str(self.gateway.port))
        self.assert_fails("no such ledger", "ledger", "--ledger", f"{ledger}.missing")
        with open(ledger, "w", encoding="ascii") as file:
            file.write("this is not a database, however long it may be" * 100)
        self.assert_fails("not a database", *good)
        self.assert_fails("not a database", "ledger", "--ledger", ledger)

    def assert_fails(self, message: str, *arguments: str) -> None:
        with self.subTest(arguments=arguments):
            command = [sys.executable, PROGRAM, *arguments]
            ended = subprocess.run(command, capture_output=True, timeout=DEADLINE_S, text=True)
            self.assertEqual(2, ended.returncode)
            self.assertIn(message, ended.stderr)
            self.assertNotIn("Traceback", ended.stderr)


if __name__ == "__main__":
    unittest.main()
