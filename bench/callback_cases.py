"""The callbacks that are timed: what lies in the tables before a run, which payment a client calls
back next, and what must have become of the payments afterwards.

A payment's id is a number in decimal. Each run has a range of numbers of its own, each client a part
of that, and goes through it one by one. Payments that applications make have numbers that grow with
time, too.
"""

from __future__ import annotations

import typing

import peers
from database import Database
from options import CLIENTS

# So far apart that no run reaches the numbers of the next.
RANGE = 10_000_000
FIRST_ID = 1_000_000_000


class Range(typing.NamedTuple):
    """The payments of one run: `share` for each client, from `base` on."""

    base: int
    share: int
    clients: int

    @property
    def rows(self) -> int:
        return self.share * self.clients

    @property
    def last(self) -> int:
        return self.base + self.rows - 1


class RunWasWrong(Exception):
    """A run did not do what its figure would say."""


class Case(typing.NamedTuple):
    """One kind of callbacks."""

    name: str
    title: str
    # What is measured beside what; all else is a ratio to the first.
    peers: tuple[str, ...]
    # SQL that makes the rows of a range: %(first)s to %(last)s.
    rows: str
    # Counts the payments of a range that are as their callback should have left them.
    processed: str
    clients: tuple[int, ...] = CLIENTS
    # How many callbacks a transaction has, where it is not one.
    sizes: dict[str, int] = {}

    def size_of(self, peer: str) -> int:
        return self.sizes.get(peer, 1)

    def prepare(self, database: Database, part: Range) -> None:
        # Foreign keys and currencies hold here by the way the rows are made.
        database.run("SET session_replication_role = replica")
        database.run(self.rows, {"first": part.base, "last": part.last})
        database.run("SET session_replication_role = origin")

    def script(self, peer: str) -> str:
        if self.size_of(peer) > 1:
            return peers.template(peer.rstrip("0123456789"))
        name = f"floor_{self.name}" if peer == peers.FLOOR.name else peer
        return ("\\set id :base + :client_id * :share + :n\n\\set n :n + 1\n"
                "\\set transaction_id :id\n" + peers.timed_script(name))

    def check(self, database: Database, part: Range) -> None:
        """Every callback that was counted did its work, exactly once."""
        processed = database.value(self.processed, {"first": part.base, "last": part.last})
        if processed != part.rows:
            raise RunWasWrong(f"{self.title}: {processed} of {part.rows} were processed")


ALL = tuple(peer.name for peer in (*peers.EQUALS, peers.FLOOR))
EQUALS = tuple(peer.name for peer in peers.EQUALS)

UNPAID = """
INSERT INTO t_order (id, price) SELECT g::text, 3200 FROM generate_series(%(first)s, %(last)s) g;
INSERT INTO t_order_pay (id, order_id, price)
SELECT g::text, g::text, 3200 FROM generate_series(%(first)s, %(last)s) g;
"""
PAID_BY_ANOTHER = """
INSERT INTO t_order (id, price, status, paid_by, paid_at)
SELECT g::text, 3200, 100, 'w' || g, now() FROM generate_series(%(first)s, %(last)s) g;
INSERT INTO t_order_pay (id, order_id, price, status, paid_amount, paid_currency)
SELECT 'w' || g, g::text, 3200, 100, 3200, 'CNY' FROM generate_series(%(first)s, %(last)s) g;
INSERT INTO t_order_pay (id, order_id, price)
SELECT g::text, g::text, 3200 FROM generate_series(%(first)s, %(last)s) g;
"""
PAID = """
INSERT INTO t_order (id, price, status, paid_by, paid_at)
SELECT g::text, 3200, 100, g::text, now() FROM generate_series(%(first)s, %(last)s) g;
INSERT INTO t_order_pay (id, order_id, price, status, paid_amount, paid_currency, transaction_id)
SELECT g::text, g::text, 3200, 100, 3200, 'CNY', g::text
FROM generate_series(%(first)s, %(last)s) g;
"""
ONE_ORDER = """
INSERT INTO t_order (id, price) VALUES (%(first)s::text, 3200);
INSERT INTO t_order_pay (id, order_id, price)
SELECT g::text, %(first)s::text, 3200 FROM generate_series(%(first)s, %(last)s) g;
"""
IN_RANGE = "p.id BETWEEN %(first)s::text AND %(last)s::text AND length(p.id) = 10"

CASES = (
    Case("first", "first payments", ALL, UNPAID, f"""
SELECT count(*) FROM t_order_pay p JOIN t_order o ON o.paid_by = p.id AND o.id = p.order_id
WHERE {IN_RANGE} AND p.status = 100 AND o.status = 100"""),
    Case("duplicates", "duplicates", ALL, PAID_BY_ANOTHER, f"""
SELECT count(*) FROM t_order_pay p JOIN t_refund r ON r.payment_id = p.id
WHERE {IN_RANGE} AND p.status = 200 AND r.status = 0 AND p.refund_reserved = r.amount"""),
    Case("repeated", "repeated notifications", EQUALS, PAID, f"""
SELECT count(*) FROM t_order_pay p JOIN t_order o ON o.paid_by = p.id
WHERE {IN_RANGE} AND p.status = 100 AND p.updated_at = p.created_at"""),
    Case("hot", "one hot order", EQUALS, ONE_ORDER, f"""
SELECT count(*) FROM t_order_pay p LEFT JOIN t_refund r ON r.payment_id = p.id
LEFT JOIN t_order o ON o.paid_by = p.id
WHERE {IN_RANGE} AND (p.status = 200 AND r.refund_no IS NOT NULL
                      OR p.status = 100 AND o.id IS NOT NULL)"""),
)

BATCHES = (
    Case("batch", "batches", ("batch100", "batch10", "batch1000", "plpgsql_batch100", "payonce"),
         UNPAID, CASES[0].processed, clients=(1, 2, 16),
         sizes={"batch10": 10, "batch100": 100, "batch1000": 1000, "plpgsql_batch100": 100}),
)
