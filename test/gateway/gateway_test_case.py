"""What all tests of the stand-in gateways share: a real process for each class or test."""

from __future__ import annotations

import os
import shutil
import tempfile
import typing
import unittest

from gateway_process import Gateway


class GatewayTest(unittest.TestCase):
    """Gives each test class one gateway, or each test its own by start()."""

    options: tuple[str, ...] = ()
    directory: str
    gateway: Gateway

    @classmethod
    def setUpClass(cls) -> None:
        cls.directory = tempfile.mkdtemp(prefix="stand_in_gateway.")
        cls.addClassCleanup(shutil.rmtree, cls.directory)
        cls.gateway = Gateway(cls.directory, *cls.options)
        cls.addClassCleanup(cls.gateway.stop)

    def setUp(self) -> None:
        self.gateway.faults()
        self.refund_no = f"{self.id().rsplit('.', 1)[1][:40]}-R1"
        # A traceback in the gateway is a failure of the test during which it happened.
        self.addCleanup(self.assert_no_errors, self.gateway)

    def start(self, *options: str, **named: typing.Any) -> Gateway:
        directory = tempfile.mkdtemp(prefix="stand_in_gateway.")
        self.addCleanup(shutil.rmtree, directory)
        return self.start_in(directory, *options, **named)

    def start_in(self, directory: str, *options: str, **named: typing.Any) -> Gateway:
        gateway = Gateway(directory, *options, **named)
        self.addCleanup(gateway.stop)
        self.addCleanup(self.assert_no_errors, gateway)
        return gateway

    def assert_no_errors(self, gateway: Gateway) -> None:
        if os.path.exists(gateway.ledger_file):
            self.assertEqual("", gateway.errors())

    def assert_paid_once(self, refund_no: str) -> None:
        row = self.gateway.row(refund_no)
        self.assertEqual(("succeeded", 1), (row["state"], row["paid_out_count"]))
