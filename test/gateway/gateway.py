"""One stand-in gateway: takes requests through a protocol, a fault plan and a ledger.

The order of things is the point of it: a request is filed when it arrives, the ledger decides,
the decision is committed, and only then does a byte of the answer leave. Whoever kills the
process finds in the ledger at least what clients were told.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import fault_behaviours
from faults import FaultPlan
from http_server import Connection, Request, Response
from ledger import PROCESSING, Ledger, Refund, Terms
from notifier import Notifier
from protocol import GOOD, OTHER, Call, Lie, Outcome, Protocol, ProviderError
from settlement_mode import SettlementMode


class Traffic:
    """How many requests were seen and are in flight, and who waits for that to change.

    Counted by refund number and kind, with None for "any", so that a wait costs no query.
    """

    def __init__(self, seen_before: list[tuple[str | None, str, int]]) -> None:
        self.seen: Counter[tuple[str | None, str | None]] = Counter()
        self.in_flight: Counter[tuple[str | None, str | None]] = Counter()
        self.max_in_flight = 0
        self._waiters: list[asyncio.Future[None]] = []
        for refund_no, kind, count in seen_before:
            for key in _keys(refund_no, kind):
                self.seen[key] += count

    def arrived(self, call: Call) -> None:
        for key in _keys(call.refund_no, call.kind):
            self.seen[key] += 1
            self.in_flight[key] += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight[None, None])
        self._wake()

    def left(self, call: Call) -> None:
        for key in _keys(call.refund_no, call.kind):
            self.in_flight[key] -= 1
            if not self.in_flight[key]:
                del self.in_flight[key]

    async def wait_until(self, is_reached: Callable[[], bool], timeout_ms: int) -> bool:
        deadline = asyncio.get_running_loop().time() + timeout_ms / 1000
        while not is_reached():
            change = asyncio.get_running_loop().create_future()
            self._waiters.append(change)
            try:
                async with asyncio.timeout_at(deadline):
                    await change
            except TimeoutError:
                return False
        return True

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for change in waiters:
            if not change.done():
                change.set_result(None)


def _keys(refund_no: str | None, kind: str) -> set[tuple[str | None, str | None]]:
    if kind == OTHER:
        return set()
    return {(None, None), (None, kind), (refund_no, None), (refund_no, kind)}


class GroupCommit:
    """One commit for all requests that arrived together: what makes the gateway fast."""

    def __init__(self, commit: Callable[[], None]) -> None:
        self._commit_ledger = commit
        self._pending: asyncio.Future[None] | None = None

    async def committed(self) -> None:
        if self._pending is None:
            loop = asyncio.get_running_loop()
            self._pending = loop.create_future()
            loop.call_soon(self._commit)
        await self._pending

    def _commit(self) -> None:
        pending, self._pending = self._pending, None
        if pending is None or pending.cancelled():  # the gateway is stopping
            return
        try:
            self._commit_ledger()
        except Exception as error:
            pending.set_exception(error)
        else:
            pending.set_result(None)


class Gateway:
    def __init__(
        self,
        ledger: Ledger,
        protocol: Protocol,
        faults: FaultPlan,
        mode: SettlementMode,
        notifier: Notifier,
        scheme: str,
    ) -> None:
        self.ledger = ledger
        self.notifier = notifier
        self.faults = faults
        self.mode = mode
        self.scheme = scheme
        self.traffic = Traffic(ledger.requests_seen())
        self.group_commit = GroupCommit(self.commit)
        self.protocol = protocol
        self._settling: asyncio.TimerHandle | None = None

    async def handle(self, connection: Connection, request: Request) -> None:
        call = self.protocol.read(request)
        rule = None
        if call.refusal is None:
            assert call.refund_no is not None
            rule = self.faults.choose(call.kind, call.refund_no)
        request_id = self.ledger.add_request(
            request.arrived_at,
            request.method,
            request.target,
            call.kind,
            call.refund_no,
            None if rule is None else rule.fault,
            connection.number,
            request.headers,
            request.body,
        )
        exchange = Exchange(self, connection, request, call, request_id)
        self.traffic.arrived(call)
        try:
            if call.refusal is not None:
                if call.refusal_counter is not None:
                    self.ledger.count(call.refusal_counter)
                await exchange.send(call.refusal)
            elif rule is None:
                await exchange.send(exchange.act())
            else:
                behave = fault_behaviours.FAULTS[rule.fault].behave
                await behave(exchange, **rule.parameters)
        finally:
            self.protocol.left(call)
            self.traffic.left(call)

    def commit(self) -> None:
        """What became durable is then told to the merchant."""
        self.ledger.commit()
        changes, self.ledger.changes = self.ledger.changes, []
        for change, refund_no in changes:
            self.notifier.refund_changed(change, refund_no)

    def settle_due(self) -> None:
        """Settles what is due, and sets the clock for the next."""
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        next_due = self.ledger.settle_due()
        self.commit()
        if next_due is not None:
            self.settle_within(max(0.0, next_due - time.time()))

    def settle_within(self, wait_s: float) -> None:
        loop = asyncio.get_running_loop()
        if self._settling is not None:
            if self._settling.when() <= loop.time() + wait_s:
                return
            self._settling.cancel()
        self._settling = loop.call_later(wait_s, self.settle_due)


TRUTH = Lie()


class Exchange:
    """One request on its way to an answer, as the fault behaviours steer it."""

    def __init__(
        self,
        gateway: Gateway,
        connection: Connection,
        request: Request,
        call: Call,
        request_id: int,
    ) -> None:
        self.connection = connection
        self.request = request
        self.call = call
        self.scheme = gateway.scheme
        self._gateway = gateway
        self._request_id = request_id
        self._outcome: Outcome | None = None

    def act(self, terms: Terms | None = None, lie: Lie = TRUTH) -> Response:
        """Lets the ledger decide (once, however often it is called) and words the answer."""
        if self._outcome is None:
            self._outcome = self._decide(terms or self._gateway.mode.terms())
            self._gateway.protocol.answered(self.call, self._worded(TRUTH), None)
        return self._sealed(self._worded(lie), lie.signature)

    def pretend(self, outcome: Outcome) -> Response:
        """The answer to this call if the ledger had said so."""
        response = self._gateway.protocol.answer(self.call, outcome, 200, TRUTH)
        return self._sealed(response, GOOD)

    def provider_error(
        self, error: ProviderError, signature: str, is_stored: bool | None
    ) -> Response:
        response = self._gateway.protocol.provider_error(self.call, error)
        self._gateway.protocol.answered(self.call, response, is_stored)
        return self._sealed(response, signature)

    def _sealed(self, response: Response, signature: str) -> Response:
        return self._gateway.protocol.seal(self.call, self.request, response, signature)

    def _worded(self, lie: Lie) -> Response:
        assert self._outcome is not None
        accepted_status = self._gateway.mode.http_status
        is_settled = isinstance(self._outcome, Refund) and self._outcome.state != PROCESSING
        if is_settled and accepted_status == 202:  # which would say that it is processing
            accepted_status = 200
        return self._gateway.protocol.answer(self.call, self._outcome, accepted_status, lie)

    def fail_if_processing(self, error: str) -> None:
        ledger = self._gateway.ledger
        assert self.call.refund_no is not None
        row = ledger.row(self.call.refund_no)
        if row is not None and row["state"] == PROCESSING:
            ledger.settle(self.call.refund_no, "failed", error)

    async def committed(self) -> None:
        await self._gateway.group_commit.committed()
        await self._gateway.notifier.before_answer(self.call.refund_no)

    async def start_answer(self, status: int) -> None:
        """Files the answer durably; after this its bytes may leave."""
        if not self.connection.is_closed:
            self._gateway.ledger.answered(self._request_id, status)
        await self.committed()

    async def send(self, response: Response) -> None:
        await self.start_answer(response.status)
        self.connection.send(response, self.request)

    async def send_error(
        self, status: int, text: str, headers: dict[str, str] | None = None
    ) -> None:
        await self.send(self._gateway.protocol.error(status, text, headers))

    def _decide(self, terms: Terms) -> Outcome:
        outcome = self._gateway.protocol.act(self.call, terms)
        if isinstance(outcome, Refund) and outcome.is_new and terms.settle_after_s is not None:
            self._gateway.settle_within(terms.settle_after_s)
        return outcome
