#!/usr/bin/env python3
"""Shows that the peers of pay_callback decide as it does: the same stories are told to each, and the
outcomes and rows compared; then many clients pay the same orders at once.

Needs a database with payonce (PGHOST, PGPORT, PGDATABASE), whose orders it throws away. Prints TAP.
"""

from __future__ import annotations

import sys
import typing

import peers
from database import Database, PgbenchFailed, pgbench
from peers import News, Peer

CNY = {"amount": 3200, "currency": "CNY"}
RACING_CLIENTS = 8
RACED_ORDERS = 20
PAYMENTS_OF_AN_ORDER = 8


class Story(typing.NamedTuple):
    """Callbacks of the payments p1 and p2 (3200 CNY) of one order, which costs the same."""

    name: str
    news: tuple[News, ...]
    # What happens before, beyond the rows.
    setup: str = ""


P1 = News("p1", transaction_id="t1", **CNY)
P2 = News("p2", transaction_id="t2", **CNY)
FAILED = News("p1", success=False)
STORIES = (
    Story("a first payment", (P1,)),
    Story("a first payment of which only the number is known", (News("p1"),)),
    Story("a first payment, repeated", (P1, P1, P1)),
    Story("a number that becomes known later", (News("p1"), P1, News("p1"))),
    Story("a duplicate", (P1, P2)),
    Story("a duplicate, repeated", (P1, P2, P2, P1)),
    Story("a duplicate of which only the number is known", (News("p2"), News("p1"))),
    Story("a failure, repeated", (FAILED, FAILED)),
    Story("a success after a failure", (FAILED, P1)),
    Story("a duplicate after a failure", (FAILED, P2, P1)),
    Story("a failure after a success", (P1, FAILED)),
    Story("a failure after a duplicate", (P2, P1, FAILED)),
    Story("another amount", (News("p1", amount=3199, currency="CNY", transaction_id="t1"), P1, P2)),
    Story("another amount without a currency", (News("p1", amount=1),)),
    Story("another currency", (News("p1", amount=3200, currency="USD", transaction_id="t1"),)),
    Story("another currency without an amount", (News("p1", currency="USD"),)),
    Story("another amount of a paid order", (P2, News("p1", amount=1, currency="CNY"))),
    Story("a payment of another price than its order's", (P1, P2),
          "UPDATE t_order_pay SET price = 3200 WHERE id = 'p1'; UPDATE t_order SET price = 3300"),
    Story("a payment in another currency than its order", (P1,), "UPDATE t_order SET currency = 'USD'"),
    Story("the same number under another transaction", (P1, P1._replace(transaction_id="t9"))),
    Story("two conflicts, one of them repeated",
          (P1, *(P1._replace(transaction_id=number) for number in ("t8", "t9", "t8")))),
    Story("a conflict of a duplicate", (P2, P1, P1._replace(transaction_id="t9"))),
    Story("a conflict after a mismatch",
          (P1._replace(amount=1), P1._replace(amount=1, transaction_id="t9"))),
    Story("a late payment", (P1,), "UPDATE t_order SET status = 400, closed_at = now()"),
    Story("two late payments, repeated", (P1, P2, P1, P2),
          "UPDATE t_order SET status = 400, closed_at = now()"),
    Story("a late failure", (FAILED,), "UPDATE t_order SET status = 400, closed_at = now()"),
    Story("a payment in attention", (P1, P2), "UPDATE t_order_pay SET status = 500 WHERE id = 'p1'"),
    Story("an unknown payment", (News("p3"),)),
)

# Times are compared by whether they are set: they differ from run to run.
ROWS = """
SELECT to_jsonb(t) || jsonb_build_object('created_at', 0, 'updated_at', updated_at > created_at)
FROM t_order_pay t ORDER BY id
""", """
SELECT to_jsonb(t) || jsonb_build_object('created_at', 0, 'paid_at', paid_at IS NOT NULL,
                                         'closed_at', closed_at IS NOT NULL)
FROM t_order t ORDER BY id
""", """
SELECT to_jsonb(t) || jsonb_build_object('created_at', 0, 'updated_at', 0, 'next_attempt_at', 0,
    'window_from', window_from = (SELECT created_at FROM t_order_pay p WHERE p.id = t.payment_id))
FROM t_refund t ORDER BY refund_no
"""


def forget_everything(database: Database) -> None:
    database.run("DELETE FROM t_refund; DELETE FROM t_order_pay; DELETE FROM t_order;"
                 "DELETE FROM bench.outcome")


def tell(database: Database, peer: Peer, story: Story) -> list[typing.Any]:
    """What became of a story: the outcomes and the rows."""
    forget_everything(database)
    database.run("INSERT INTO t_order (id, price) VALUES ('o1', 3200);"
                 "INSERT INTO t_order_pay (id, order_id, price, created_at)"
                 " SELECT p, 'o1', 3200, now() - interval '1 hour' FROM unnest(ARRAY['p1', 'p2']) p;"
                 + story.setup)
    happened: list[typing.Any] = []
    for news in story.news:
        database.run("DELETE FROM bench.outcome")
        try:
            pgbench(database.name, peers.recording_script(peer, news), 1, "--transactions=1")
        except PgbenchFailed:
            pass
        told = database.rows("SELECT outcome FROM bench.outcome")
        # An unknown payment is an error to one, and no outcome to another.
        happened.append(told[0][0] if told else None)
    for rows in ROWS:
        happened.append([row[0] for row in database.rows(rows)])
    happened.append(database.rows("SELECT * FROM payonce_check()"))
    return happened


def race(database: Database, peer: Peer) -> list[typing.Any]:
    """Each of many orders is paid by all its payments at once; every payment twice."""
    forget_everything(database)
    payments = RACED_ORDERS * PAYMENTS_OF_AN_ORDER
    database.run("INSERT INTO t_order (id, price) SELECT g::text, 3200 FROM generate_series(1, %(orders)s) g",
                 {"orders": RACED_ORDERS})
    database.run("INSERT INTO t_order_pay (id, order_id, price)"
                 " SELECT g::text, (1 + g / %(each)s)::text, 3200"
                 " FROM generate_series(0, %(payments)s - 1) g",
                 {"each": PAYMENTS_OF_AN_ORDER, "payments": payments})
    script = ("\\set id mod(:n * :clients + :client_id, :payments)\n\\set n :n + 1\n"
              "\\set transaction_id :id\n" + peers.timed_script(peer.name))
    try:
        pgbench(database.name, script, RACING_CLIENTS,
                f"--transactions={2 * payments // RACING_CLIENTS}",
                variables={"n": 0, "clients": RACING_CLIENTS, "payments": payments,
                           "success": "true", "amount": 3200, "currency": "CNY"})
    except PgbenchFailed as failure:
        return [str(failure)]
    return [
        database.rows("SELECT status, count(*) FROM t_order GROUP BY status ORDER BY status"),
        database.rows("SELECT status, count(*) FROM t_order_pay GROUP BY status ORDER BY status"),
        database.rows("SELECT status, reason, count(*) FROM t_refund GROUP BY 1, 2 ORDER BY 1, 2"),
        database.rows("SELECT * FROM payonce_check()"),
    ]


RACE_RESULT = [
    [(100, RACED_ORDERS)],
    [(100, RACED_ORDERS), (200, RACED_ORDERS * (PAYMENTS_OF_AN_ORDER - 1))],
    [(0, "duplicate", RACED_ORDERS * (PAYMENTS_OF_AN_ORDER - 1))],
    [],
]


def differences(database: Database) -> list[tuple[str, str]]:
    """Each comparison: its name, and what differs (empty: nothing)."""
    found = []
    for story in STORIES:
        expected = tell(database, peers.PAYONCE, story)
        for peer in peers.EQUALS[1:]:
            got = tell(database, peer, story)
            found.append((f"{peer.name}: {story.name}",
                          "" if got == expected else f"{got}\ninstead of\n{expected}"))
    for peer in peers.EQUALS:
        got = race(database, peer)
        found.append((f"{peer.name}: {RACING_CLIENTS} clients pay the same orders",
                      "" if got == RACE_RESULT else f"{got}\ninstead of\n{RACE_RESULT}"))
    return found


def install(database: Database) -> None:
    database.run("DROP SCHEMA IF EXISTS bench CASCADE")
    database.run_file(peers.FOLDER / "callback_peers.sql")


def main() -> int:
    database = Database()
    install(database)
    found = differences(database)
    forget_everything(database)
    print(f"1..{len(found)}")
    for number, (name, difference) in enumerate(found, 1):
        print(f"{'not ok' if difference else 'ok'} {number} - {name}")
        for line in difference.splitlines():
            print(f"# {line}")
    return 1 if any(difference for _, difference in found) else 0


if __name__ == "__main__":
    sys.exit(main())
