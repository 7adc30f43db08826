#!/usr/bin/env python3
"""A merchant in a storm: makes orders, has customers pay them through several gateways, and delivers
the callbacks over many connections, each until the database has acknowledged it.

usage: merchant.py --database DSN --gateway NAME=URL ... --seed N --log FILE

What was acknowledged is in the log before anything else happens: it is what the gateways were told,
and so what the database must never take back. Lines, their fields separated by tabs:

    order    ID PRICE
    payment  ID ORDER GATEWAY SUCCEEDS FAILS     what the gateway will say of it: 1 or 0 each
    ack      UNIX_S ORDER PAYMENT NEWS OUTCOME   NEWS is success, failure, or close (of the order)
    error    SQLSTATE COUNT                      at the end: what deliveries met
    open     COUNT                               at the end: deliveries that were never acknowledged

New orders are made until standard input ends; then everything open is delivered, and the exit code
is 0 if all of it was acknowledged. The seed decides all orders and what is told of them; who
delivers what, and when, is the operating system's.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import itertools
import json
import os
import queue
import random
import sys
import threading
import time
import typing
import urllib.error
import urllib.request

import psycopg2
from psycopg2 import extensions, extras

ORDERS_AT_A_TIME = 10
# More open news than this would only be a queue: the orders wait instead.
OPEN_NEWS_LIMIT = 600
RECONNECT_S = 0.05
DRAIN_LIMIT_S = 150
ISOLATION_LEVELS = (
    extensions.ISOLATION_LEVEL_REPEATABLE_READ,
    extensions.ISOLATION_LEVEL_SERIALIZABLE,
)
OUTCOME = "SELECT pay_callback_outcome(%s, %s, transaction_id => %s)"


@dataclasses.dataclass(frozen=True)
class Payment:
    payment_id: str
    order_id: str
    price: int
    gateway: str
    # What the gateway says of it, in no particular order.
    news: tuple[str, ...]

    @property
    def succeeds(self) -> bool:
        return "success" in self.news

    @property
    def transaction_id(self) -> str:
        return f"T-{self.payment_id}"


@dataclasses.dataclass(frozen=True)
class Order:
    order_id: str
    price: int
    payments: tuple[Payment, ...]
    is_closed: bool
    is_held: bool


@dataclasses.dataclass(frozen=True)
class Delivery:
    kind: str  # success, failure, undone (a success that is rolled back), close or hold
    order_id: str
    payment: Payment | None = None


def plan_news(dice: random.Random) -> tuple[str, ...]:
    kinds = (
        (40, ("success", "success")),
        (25, ("success", "success", "success", "success")),
        (20, ("failure", "success", "success")),
        (10, ("failure", "failure")),
        (5, ("undone",)),
    )
    return dice.choices([news for _, news in kinds], [weight for weight, _ in kinds])[0]


def plan_order(seed: int, number: int, gateways: list[str]) -> Order:
    dice = random.Random(f"{seed} {number}")
    # Prices differ, so that money sent back for another order would show.
    order_id, price = f"c{number}", 1000 + number
    through = dice.sample(gateways, dice.choice((1, 2, 2, 3)))
    payments = tuple(
        Payment(f"{order_id}-{i}", order_id, price, gateway, plan_news(dice))
        for i, gateway in enumerate(through, 1)
    )
    return Order(order_id, price, payments, dice.random() < 0.1, dice.random() < 0.1)


def deliveries_of(order: Order) -> list[Delivery]:
    """Shuffled, but next to each other: several connections have them in hand at the same time."""
    made = [Delivery(kind, p.order_id, p) for p in order.payments for kind in p.news]
    if order.is_closed:
        made.append(Delivery("close", order.order_id))
    random.Random(order.order_id).shuffle(made)
    return [Delivery("hold", order.order_id), *made] if order.is_held else made


class Log:
    """A line is with the operating system when write() returns."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, *lines: tuple[object, ...]) -> None:
        text = "".join("\t".join(map(str, line)) + "\n" for line in lines)
        os.write(self._fd, text.encode())


class Merchant:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.urls = dict(pair.split("=", 1) for pair in options.gateway)
        self.log = Log(options.log)
        self.open_news: queue.Queue[Delivery] = queue.Queue()
        self.stopping = threading.Event()
        self.errors: collections.Counter[str] = collections.Counter()

    # -- new orders

    def make_orders(self) -> None:
        started_at = time.monotonic()
        for first in itertools.count(1, ORDERS_AT_A_TIME):
            # By the clock: what an outage held up is made up for.
            due_at = started_at + first / self.options.orders_per_second
            while time.monotonic() < due_at or self.open_news.qsize() > OPEN_NEWS_LIMIT:
                if self.stopping.wait(0.02):
                    return
            if self.stopping.is_set():
                return
            numbers = range(first, first + ORDERS_AT_A_TIME)
            orders = [plan_order(self.options.seed, n, sorted(self.urls)) for n in numbers]
            self.open_orders(orders)

    def open_orders(self, orders: list[Order]) -> None:
        payments = [payment for order in orders for payment in order.payments]
        for name, url in self.urls.items():
            self.customers_pay(url, [p for p in payments if p.gateway == name and p.succeeds])
        self.insert_rows(orders, payments)
        self.log.write(
            *(("order", o.order_id, o.price) for o in orders),
            *(
                ("payment", p.payment_id, p.order_id, p.gateway, int(p.succeeds),
                 int("failure" in p.news))
                for p in payments
            ),
        )  # fmt: skip
        for order in orders:
            for delivery in deliveries_of(order):
                self.open_news.put(delivery)

    def customers_pay(self, url: str, payments: list[Payment]) -> None:
        """Also twice the same is only once: repeated until the gateway is up and has answered."""
        body = json.dumps(
            [
                {
                    "payment_id": p.payment_id,
                    "amount": p.price,
                    "currency": "CNY",
                    "transaction_id": p.transaction_id,
                }
                for p in payments
            ]
        ).encode()
        while payments:
            try:
                with urllib.request.urlopen(f"{url}/admin/payments", body, timeout=10) as answer:
                    answer.read()
                return
            except urllib.error.HTTPError:
                raise
            except (OSError, urllib.error.URLError):
                time.sleep(RECONNECT_S)

    def insert_rows(self, orders: list[Order], payments: list[Payment]) -> None:
        while True:
            try:
                with psycopg2.connect(self.options.database) as db, db.cursor() as cursor:
                    extras.execute_values(
                        cursor,
                        "INSERT INTO t_order (id, price) VALUES %s ON CONFLICT DO NOTHING",
                        [(o.order_id, o.price) for o in orders],
                    )
                    extras.execute_values(
                        cursor,
                        "INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES %s"
                        " ON CONFLICT DO NOTHING",
                        [(p.payment_id, p.order_id, p.price, p.gateway) for p in payments],
                    )
                db.close()
                return
            except psycopg2.Error as error:
                self.errors[error.pgcode or "connection"] += 1
                time.sleep(RECONNECT_S)

    # -- deliveries

    def deliver_all(self, number: int) -> None:
        dice = random.Random(f"{self.options.seed} connection {number}")
        # What is acknowledged has to last even where the application asks for less.
        commit = "off" if number % 2 else "on"
        database = f"{self.options.database} options='-c synchronous_commit={commit}'"
        connection = None
        while True:
            delivery = self.open_news.get()
            try:
                if connection is None or connection.closed:
                    connection = psycopg2.connect(database)
                is_done = Attempt(self, connection, dice).make(delivery)
            except psycopg2.Error as error:
                is_done = False
                self.errors[error.pgcode or "connection"] += 1
                connection = reusable(connection)
                if connection is None:
                    time.sleep(RECONNECT_S)
            if not is_done:
                # Whichever connection is free repeats it.
                self.open_news.put(delivery)
            self.open_news.task_done()

    def acknowledged(self, *told: tuple[Delivery, str]) -> None:
        at = f"{time.time():.3f}"
        self.log.write(
            *(
                ("ack", at, d.order_id, d.payment.payment_id if d.payment else "-", d.kind, outcome)
                for d, outcome in told
            )
        )

    # -- the whole

    def run(self) -> int:
        maker = threading.Thread(target=self.make_orders, daemon=True)
        maker.start()
        for number in range(self.options.connections):
            threading.Thread(target=self.deliver_all, args=(number,), daemon=True).start()
        sys.stdin.read()
        self.stopping.set()
        deadline = time.monotonic() + DRAIN_LIMIT_S
        maker.join(DRAIN_LIMIT_S)
        while self.open_news.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.05)
        left = self.open_news.unfinished_tasks
        self.log.write(*(("error", *item) for item in sorted(self.errors.items())), ("open", left))
        return 0 if left == 0 and not maker.is_alive() else 1


def reusable(
    connection: extensions.connection | None,
) -> extensions.connection | None:
    """The connection as new, or None if it is lost."""
    if connection is None or connection.closed:
        return None
    try:
        connection.rollback()
        return connection
    except psycopg2.Error:
        return None


class Attempt:
    """One try to deliver, in one of the ways applications do it. True: nothing is left to do."""

    def __init__(
        self, merchant: Merchant, connection: extensions.connection, dice: random.Random
    ) -> None:
        self.merchant = merchant
        self.connection = connection
        self.dice = dice

    def make(self, delivery: Delivery) -> bool:
        if delivery.kind == "hold":
            return self.hold(delivery)
        if delivery.kind == "close":
            return self.close(delivery)
        if delivery.kind == "undone":
            return self.roll_back(delivery)
        ways: list[tuple[int, typing.Callable[[Delivery], bool]]] = [
            (60, self.plainly),
            (12, self.slowly),
            (5, self.first_rolled_back),
            (5, lambda d: self.within("statement_timeout", d)),
            (5, lambda d: self.within("lock_timeout", d)),
            (8, self.isolated),
            (5, self.with_others),
        ]
        way = self.dice.choices([way for _, way in ways], [weight for weight, _ in ways])[0]
        return way(delivery)

    def outcome(self, cursor: extensions.cursor, delivery: Delivery) -> str:
        payment = typing.cast(Payment, delivery.payment)
        is_success = delivery.kind != "failure"
        transaction_id = payment.transaction_id if is_success else None
        cursor.execute(OUTCOME, (payment.payment_id, is_success, transaction_id))
        return str(cursor.fetchone()[0])

    def commit(self, *told: tuple[Delivery, str]) -> bool:
        self.connection.commit()
        self.merchant.acknowledged(*told)
        return True

    def plainly(self, delivery: Delivery) -> bool:
        with self.connection.cursor() as cursor:
            outcome = self.outcome(cursor, delivery)
        return self.commit((delivery, outcome))

    def slowly(self, delivery: Delivery) -> bool:
        """Something else happens between the decision and its commit."""
        with self.connection.cursor() as cursor:
            outcome = self.outcome(cursor, delivery)
            cursor.execute("SELECT pg_sleep(%s)", (self.dice.uniform(0, 0.1),))
        return self.commit((delivery, outcome))

    def roll_back(self, delivery: Delivery) -> bool:
        with self.connection.cursor() as cursor:
            self.outcome(cursor, delivery)
        self.connection.rollback()
        return True

    def first_rolled_back(self, delivery: Delivery) -> bool:
        self.roll_back(delivery)
        return False

    def within(self, timeout: str, delivery: Delivery) -> bool:
        with self.connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL {timeout} = {self.dice.randint(1, 20)}")
            outcome = self.outcome(cursor, delivery)
            cursor.execute(f"SET LOCAL {timeout} = 0")
        return self.commit((delivery, outcome))

    def isolated(self, delivery: Delivery) -> bool:
        self.connection.set_session(isolation_level=self.dice.choice(ISOLATION_LEVELS))
        try:
            return self.plainly(delivery)
        finally:
            if reusable(self.connection):
                self.connection.set_session(isolation_level="DEFAULT")

    def with_others(self, delivery: Delivery) -> bool:
        """Several callbacks in one transaction, in any order: some of these end as deadlocks."""
        others: list[Delivery] = []
        told: list[tuple[Delivery, str]] = []
        try:
            for _ in range(4):
                others.append(self.merchant.open_news.get_nowait())
        except queue.Empty:
            pass
        ours = [other for other in others if other.kind in ("success", "failure")]
        left = others
        try:
            with self.connection.cursor() as cursor:
                for each in (delivery, *ours):
                    told.append((each, self.outcome(cursor, each)))
            self.commit(*told)
            left = [other for other in others if other.kind not in ("success", "failure")]
        finally:
            for other in left:
                self.merchant.open_news.put(other)
            for _ in others:
                self.merchant.open_news.task_done()
        return True

    def close(self, delivery: Delivery) -> bool:
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT order_close(%s)", (delivery.order_id,))
            outcome = "closed" if cursor.fetchone()[0] else "paid"
        return self.commit((delivery, outcome))

    def hold(self, delivery: Delivery) -> bool:
        """The application itself has the order in hand for a while."""
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_advisory_xact_lock(order_lock_key(%s)), pg_sleep(%s)",
                (delivery.order_id, self.dice.uniform(0.02, 0.2)),
            )
        self.connection.rollback()
        return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--database", required=True, help="libpq's connection string")
    parser.add_argument("--gateway", action="append", required=True, help="NAME=URL of a stand-in")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--connections", type=int, default=24)
    parser.add_argument("--orders-per-second", type=float, default=40)
    return Merchant(parser.parse_args()).run()


if __name__ == "__main__":
    sys.exit(main())
