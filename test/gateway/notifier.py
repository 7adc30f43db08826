"""Tells the merchant what happened, again and again until it is acknowledged.

What is to be told is filed before it is sent, so that a gateway that was killed goes on telling.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
import typing
from dataclasses import dataclass

import http_client
from faults import FaultPlan, Rule
from ledger import ACCEPTED, PROCESSING, Ledger, Refund
from protocol import GOOD, NOTIFICATION, News, Payment, Protocol

SCHEMA = """
CREATE TABLE IF NOT EXISTS notifications (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, event_id TEXT NOT NULL, event_type TEXT NOT NULL,
    payment_id TEXT NOT NULL, refund_no TEXT, content TEXT NOT NULL, url TEXT,
    first_signature TEXT NOT NULL, fault TEXT, tries INTEGER NOT NULL, last_status INTEGER,
    last_body TEXT, last_error TEXT, acknowledged INTEGER NOT NULL, is_over INTEGER NOT NULL);
"""
KEPT_BODY_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where and how news is delivered. A fault may spoil the first try's signature, and repeat."""

    url: str | None
    first_signature: str = GOOD
    times: int = 1
    is_parallel: bool = False
    fault: str | None = None


class Notifier:
    def __init__(
        self,
        ledger: Ledger,
        protocol: Protocol,
        faults: FaultPlan,
        url: str | None,
        retry_ms: int,
        max_tries: int,
    ) -> None:
        self._ledger = ledger
        self._protocol = protocol
        self._faults = faults
        self.url = url
        self._retry_s = retry_ms / 1000
        self._max_tries = max_tries
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: list[asyncio.Event] = []
        # First tries that the answer to the refund's request has to wait for.
        self._before_answer: dict[str, list[asyncio.Event]] = {}
        ledger.db.executescript(SCHEMA)

    def resume(self) -> None:
        """Goes on with what was not acknowledged when the gateway ended."""
        rows = self._ledger.db.execute("SELECT id FROM notifications WHERE NOT is_over").fetchall()
        for row in rows:
            self._start([row["id"]], [asyncio.Event()], hold=None)

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    # -- what happened

    def payment_arrived(self, payment: Payment, url: str | None) -> None:
        rule = self._faults.choose(NOTIFICATION, payment["payment_id"])
        self._follow(
            rule,
            self._protocol.payment_news(payment, None),
            payment["payment_id"],
            None,
            url or self.url,
        )

    def refund_changed(self, change: str, refund_no: str) -> None:
        refund = self._ledger.refund(refund_no)
        early = None
        if change == ACCEPTED:
            early = self._faults.choose(NOTIFICATION, refund_no, only="notify_early")
        if early is not None and refund.state == PROCESSING:
            refund = self._settle_now(refund)
        news = self._protocol.refund_news(refund, change, None)
        url = self._url_of(refund)
        if not news or url is None:
            return
        rule = early or self._faults.choose(NOTIFICATION, refund_no, but="notify_early")
        first_tries = self._follow(rule, news, refund.payment_id, refund_no, url)
        if early is not None:
            self._before_answer[refund_no] = first_tries

    def _settle_now(self, refund: Refund) -> Refund:
        """The bank was quicker than the answer to the request."""
        row = self._ledger.row(refund.refund_no)
        assert row is not None
        if row["settle_to"] is not None:
            self._ledger.settle(refund.refund_no, row["settle_to"])
            self._ledger.changes.clear()  # told by the caller
            self._ledger.commit()
        return self._ledger.refund(refund.refund_no)

    def _url_of(self, refund: Refund) -> str | None:
        wanted: str | None = refund.details.get("notify_url")
        # A public address is where a tunnel would lead to --notify-url.
        return wanted if wanted is not None and http_client.is_loopback(wanted) else self.url

    async def before_answer(self, refund_no: str | None) -> None:
        for first_try in self._before_answer.pop(refund_no or "", []):
            await first_try.wait()

    # -- what a rule makes of it

    def _follow(
        self,
        rule: Rule | None,
        news: list[News],
        payment_id: str,
        refund_no: str | None,
        url: str | None,
    ) -> list[asyncio.Event]:
        if url is None:
            return []
        name = None if rule is None else rule.fault
        parameters = {} if rule is None else rule.parameters
        delivery = Delivery(
            None if name == "notify_lost" else url,
            first_signature=parameters.get("how", GOOD),
            times=parameters.get("times", 1),
            is_parallel=parameters.get("parallel", False),
            fault=name,
        )
        hold = asyncio.Event() if name == "notify_reordered" else None
        if hold is None:
            return self.tell(news, payment_id, refund_no, delivery)
        first_tries = self.tell(news, payment_id, refund_no, delivery, hold)
        self._held.append(hold)
        return first_tries

    def tell(
        self,
        news: list[News],
        payment_id: str,
        refund_no: str | None,
        delivery: Delivery,
        hold: asyncio.Event | None = None,
    ) -> list[asyncio.Event]:
        """Files the news, and starts to deliver it; each event says when a first try is over."""
        ids = [
            self._file(one, payment_id, refund_no, delivery)
            for one in news
            for _ in range(delivery.times)
        ]
        self._ledger.commit()
        first_tries = [asyncio.Event() for _ in ids]
        if delivery.is_parallel:
            for notification_id, first_try in zip(ids, first_tries, strict=True):
                self._start([notification_id], [first_try], hold)
        else:
            self._start(ids, first_tries, hold)
        return first_tries

    def _file(self, news: News, payment_id: str, refund_no: str | None, delivery: Delivery) -> int:
        cursor = self._ledger.write(
            "INSERT INTO notifications (at, event_id, event_type, payment_id, refund_no, content,"
            " url, first_signature, fault, tries, acknowledged, is_over)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?)",
            (
                time.time(),
                news.event_id,
                news.event_type,
                payment_id,
                refund_no,
                json.dumps(news.content),
                delivery.url,
                delivery.first_signature,
                delivery.fault,
                delivery.url is None,
            ),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    # -- delivery

    def _start(
        self, ids: list[int], first_tries: list[asyncio.Event], hold: asyncio.Event | None
    ) -> None:
        task = asyncio.get_running_loop().create_task(self._deliver_all(ids, first_tries, hold))
        # Kept, because asyncio itself does not keep a running task alive.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver_all(
        self, ids: list[int], first_tries: list[asyncio.Event], hold: asyncio.Event | None
    ) -> None:
        if hold is not None:
            await hold.wait()
        for notification_id, first_try in zip(ids, first_tries, strict=True):
            await self._deliver(notification_id, first_try, was_held=hold is not None)

    async def _deliver(
        self, notification_id: int, first_try: asyncio.Event, was_held: bool
    ) -> None:
        try:
            while not self._row(notification_id)["is_over"]:
                await self._try(notification_id)
                first_try.set()
                if not was_held:
                    self._release_held()
                if not self._row(notification_id)["is_over"]:
                    await asyncio.sleep(self._retry_s)
        finally:
            first_try.set()

    async def _try(self, notification_id: int) -> None:
        row = self._row(notification_id)
        signature = row["first_signature"] if row["tries"] == 0 else GOOD
        news = News(row["event_id"], row["event_type"], json.loads(row["content"]))
        message = self._protocol.message(news, signature)
        status, body, error = None, None, None
        try:
            status, body = await http_client.post(row["url"], message.headers, message.body)
        except (OSError, ValueError, IndexError) as failure:
            error = f"{type(failure).__name__}: {failure}"
        acknowledged = status is not None and self._protocol.is_acknowledged(status, body or b"")
        if acknowledged and signature != GOOD:
            self._ledger.count("forged_notifications_acknowledged")
        tries = row["tries"] + 1
        text = None if body is None else body.decode("utf-8", "replace")[:KEPT_BODY_CHARACTERS]
        self._ledger.write(
            "UPDATE notifications SET tries = ?, last_status = ?, last_body = ?, last_error = ?,"
            " acknowledged = ?, is_over = ? WHERE id = ?",
            (
                tries,
                status,
                text,
                error,
                acknowledged,
                acknowledged or tries >= self._max_tries,
                notification_id,
            ),
        )
        self._ledger.commit()

    def _release_held(self) -> None:
        held, self._held = self._held, []
        for event in held:
            event.set()

    def _row(self, notification_id: int) -> sqlite3.Row:
        row: sqlite3.Row = self._ledger.db.execute(
            "SELECT * FROM notifications WHERE id = ?", (notification_id,)
        ).fetchone()
        return row

    def listed(self, **narrowed: str) -> list[dict[str, typing.Any]]:
        where = " AND ".join(f"{column} = :{column}" for column in narrowed) or "1"
        rows = self._ledger.db.execute(
            f"SELECT * FROM notifications WHERE {where} ORDER BY id", narrowed
        )
        return [
            {
                **dict(row),
                "content": json.loads(row["content"]),
                "acknowledged": bool(row["acknowledged"]),
                "is_over": bool(row["is_over"]),
            }
            for row in rows
        ]
