#!/usr/bin/env python3
"""Plays every interleaving of the steps of two sessions (and of three), at every isolation level,
and judges each: no order has two winners, and the tables are what the recorded answers say.

See README.md. Prints TAP.
"""

from __future__ import annotations

import itertools
import os
import sys
import typing

from sessions import Answer, Judge, Session, Stuck

LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
SHOWN_FAILURES = 3


class Step(typing.NamedTuple):
    """A statement of a session. `{id}` is the order's, `{level}` the isolation level."""

    statement: str
    # One that ends by itself (a lock_timeout) is waited for.
    ends_by_itself: bool = False


class Script(typing.NamedTuple):
    """What a session does in a transaction: its steps, of which `call` is one of payonce's."""

    steps: tuple[Step, ...]
    call: str
    payment: str | None
    commits: bool
    # Beyond 40001, which REPEATABLE READ and SERIALIZABLE may answer.
    may_answer: frozenset[str] = frozenset()


class Scenario(typing.NamedTuple):
    """What meets what. Each session has the scripts that it may play."""

    name: str
    setup: str
    scripts: tuple[tuple[Script, ...], ...]
    level_choices: tuple[tuple[str, ...], ...]
    # Who had won before the sessions began.
    winner: str | None = None
    session_setup: str = "SET deadlock_timeout = '100s'"
    # All sessions do the same: of interleavings that differ in who is who, one is enough.
    is_symmetric: bool = False
    # What must be seen at least once, lest the scenario test nothing.
    must_see: frozenset[str] = frozenset({"waited", "40001"})


class Run(typing.NamedTuple):
    """One interleaving as it was played."""

    order: str
    scripts: tuple[Script, ...]
    levels: tuple[str, ...]
    schedule: tuple[int, ...]
    # Of each session the last answer of its call, if that was committed.
    recorded: list[typing.Any]
    answers: list[list[Answer]]
    waited: bool

    def describe(self) -> str:
        plays = [
            f"s{number + 1} {level}: " + "; ".join(step.statement for step in script.steps)
            for number, (script, level) in enumerate(zip(self.scripts, self.levels))
        ]
        order = " ".join(f"s{number + 1}" for number in self.schedule)
        return "\n".join([f"{self.order}: {order}", *plays, str(self.answers)])


# ---- What sessions do ----------------------------------------------------------------------------

BEGIN = "BEGIN ISOLATION LEVEL {level}; SELECT 1"


def pay(payment: str) -> str:
    return f"SELECT pay_callback_outcome('{{id}}-{payment}', true)"


CLOSE = "SELECT order_close('{id}')"


def plain(call: str, payment: str | None, begin: str = BEGIN) -> tuple[Script, ...]:
    """In a transaction that is committed, or rolled back."""
    return tuple(
        Script((Step(begin), Step(call), Step(end)), call, payment, end == "COMMIT")
        for end in ("COMMIT", "ROLLBACK")
    )


def limited(call: str, payment: str | None) -> tuple[Script, ...]:
    begin = BEGIN + "; SET LOCAL lock_timeout = '5ms'"
    return tuple(
        script._replace(
            steps=(script.steps[0], Step(call, ends_by_itself=True), script.steps[2]),
            may_answer=frozenset({"55P03"}),
        )
        for script in plain(call, payment, begin)
    )


def alone(call: str) -> tuple[Script, ...]:
    """In no transaction but its own."""
    return (Script((Step(call),), call, None, True),)


def prepared(call: str, payment: str) -> tuple[Script, ...]:
    """In a prepared transaction, which outlives its session's part in it."""
    return tuple(
        Script(
            (Step(BEGIN), Step(call), Step("PREPARE TRANSACTION '{id}'"), Step(f"{end} PREPARED '{{id}}'")),
            call,
            payment,
            end == "COMMIT",
            # There is nothing prepared when the call failed.
            frozenset({"42704"}),
        )
        for end in ("COMMIT", "ROLLBACK")
    )


def taken_back(call: str, payment: str) -> tuple[Script, ...]:
    """In a savepoint that is rolled back, and once more after that."""
    back = Step("ROLLBACK TO SAVEPOINT a")
    return tuple(
        script._replace(steps=(script.steps[0], Step(call), back, Step(call), script.steps[2]))
        for script in plain(call, payment, BEGIN + "; SAVEPOINT a")
    )


def only_taken_back(call: str, payment: str) -> tuple[Script, ...]:
    """In a savepoint that is rolled back, of a transaction that is committed."""
    steps = (Step(BEGIN + "; SAVEPOINT a"), Step(call), Step("ROLLBACK TO SAVEPOINT a"), Step("COMMIT"))
    return (Script(steps, call, payment, False),)


TWO_PAYMENTS = """
    INSERT INTO t_order (id, price) VALUES ('{id}', 3200);
    INSERT INTO t_order_pay (id, order_id, price, gateway)
    VALUES ('{id}-p1', '{id}', 3200, 'paused'), ('{id}-p2', '{id}', 3200, 'paused'),
           ('{id}-p3', '{id}', 3200, 'paused')"""

# The whole of the winner w is to be sent back, which failed: when a person cancels that, w is what
# the order keeps again.
WINNER_BEING_REFUNDED = """
    INSERT INTO t_order (id, price, status, paid_by, paid_at)
    VALUES ('{id}', 3200, 100, '{id}-w', now());
    INSERT INTO t_order_pay (id, order_id, price, gateway, status, attention)
    VALUES ('{id}-w', '{id}', 3200, 'paused', 500, 'looked at'),
           ('{id}-p1', '{id}', 3200, 'paused', 0, NULL);
    INSERT INTO t_refund (refund_no, payment_id, amount, reason, status, attempts)
    VALUES ('{id}-w-R1', '{id}-w', 3200, 'request', 500, 1)"""


def resolve(refunded: str) -> str:
    return f"SELECT 'resolved as {refunded}' FROM refund_resolve('{{id}}-w-R1', {refunded}, 'by hand')"


TRAPS = """
    SET deadlock_timeout = '100s';
    SET ROLE interleavings_shop;
    SET search_path = interleavings_traps, pg_catalog, public"""

ALL_PAIRS = tuple(itertools.product(LEVELS, repeat=2))
SAME_PAIRS = tuple((level, level) for level in LEVELS)
SAME_TRIPLES = tuple((level, level, level) for level in LEVELS)

SCENARIOS = (
    Scenario(
        "two payments", TWO_PAYMENTS, (plain(pay("p1"), "p1"), plain(pay("p2"), "p2")), ALL_PAIRS
    ),
    Scenario(
        "one payment twice", TWO_PAYMENTS, (plain(pay("p1"), "p1"), plain(pay("p1"), "p1")), ALL_PAIRS
    ),
    Scenario(
        "callback and close", TWO_PAYMENTS, (plain(pay("p1"), "p1"), plain(CLOSE, None)), ALL_PAIRS
    ),
    Scenario(
        "callback and refund_resolve, cancelled",
        WINNER_BEING_REFUNDED,
        (plain(pay("p1"), "p1"), plain(resolve("false"), None)),
        ALL_PAIRS,
        winner="w",
        must_see=frozenset({"waited"}),
    ),
    Scenario(
        "callback and refund_resolve, refunded",
        WINNER_BEING_REFUNDED,
        (plain(pay("p1"), "p1"), plain(resolve("true"), None)),
        ALL_PAIRS,
        winner="w",
        must_see=frozenset({"waited"}),
    ),
    Scenario(
        "callback in a prepared transaction",
        TWO_PAYMENTS,
        (prepared(pay("p1"), "p1"), plain(pay("p2"), "p2")),
        ALL_PAIRS,
    ),
    Scenario(
        "close while a callback is prepared",
        TWO_PAYMENTS,
        (prepared(pay("p1"), "p1"), plain(CLOSE, None)),
        SAME_PAIRS,
    ),
    Scenario(
        "callback in a savepoint that is rolled back",
        TWO_PAYMENTS,
        (only_taken_back(pay("p1"), "p1"), plain(pay("p2"), "p2")),
        ALL_PAIRS,
        must_see=frozenset({"waited"}),
    ),
    Scenario(
        "callback after a savepoint that is rolled back",
        TWO_PAYMENTS,
        (taken_back(pay("p1"), "p1"), plain(pay("p2"), "p2")),
        SAME_PAIRS,
    ),
    Scenario(
        "callbacks under lock_timeout",
        TWO_PAYMENTS,
        (limited(pay("p1"), "p1"), limited(pay("p2"), "p2")),
        ALL_PAIRS,
        must_see=frozenset({"55P03", "40001"}),
    ),
    Scenario(
        "callback and close under lock_timeout",
        TWO_PAYMENTS,
        (limited(pay("p1"), "p1"), limited(CLOSE, None)),
        SAME_PAIRS,
        must_see=frozenset({"55P03", "40001"}),
    ),
    Scenario(
        "two payments, called by an application's role from among traps",
        TWO_PAYMENTS,
        (plain(pay("p1"), "p1"), plain(pay("p2"), "p2")),
        SAME_PAIRS,
        session_setup=TRAPS,
    ),
    Scenario(
        "three payments",
        TWO_PAYMENTS,
        tuple(plain(pay(payment), payment)[:1] for payment in ("p1", "p2", "p3")),
        SAME_TRIPLES,
        is_symmetric=True,
    ),
    Scenario(
        "two payments and a close",
        TWO_PAYMENTS,
        (plain(pay("p1"), "p1"), plain(pay("p2"), "p2")[:1], alone(CLOSE)),
        SAME_TRIPLES,
    ),
)


# ---- Playing -------------------------------------------------------------------------------------


def schedules(lengths: tuple[int, ...], is_symmetric: bool) -> typing.Iterator[tuple[int, ...]]:
    """Every order in which sessions can do so many steps each."""

    def continued(left: tuple[int, ...], done: tuple[int, ...]) -> typing.Iterator[tuple[int, ...]]:
        if not any(left):
            yield done
        for number, steps in enumerate(left):
            is_first = steps == lengths[number]
            # The first steps come in the order of the sessions.
            skips_one = is_symmetric and is_first and number > 0 and left[number - 1] == lengths[number - 1]
            if steps > 0 and not skips_one:
                fewer = left[:number] + (steps - 1,) + left[number + 1 :]
                yield from continued(fewer, done + (number,))

    yield from continued(lengths, ())


class Player:
    """Plays one interleaving after another on the same sessions."""

    def __init__(self, judge: Judge, sessions: list[Session]) -> None:
        self._judge = judge
        self._sessions = sessions

    def play(self, order: str, scripts: tuple[Script, ...], levels: tuple[str, ...],
             schedule: tuple[int, ...]) -> Run:
        """A step whose session still waits is done as soon as that goes on."""
        due: list[list[Step]] = [[] for _ in scripts]
        coming = [iter(script.steps) for script in scripts]
        run = Run(order, scripts, levels, schedule, [None] * len(scripts), [[] for _ in scripts], False)
        waited = False
        for number in schedule:
            due[number].append(next(coming[number]))
            waited = self._do_what_is_due(run, due) or waited
        if any(due) or any(session.is_busy for session in self._sessions):
            raise Stuck("the sessions wait for each other")
        for number, script in enumerate(scripts):
            run.recorded[number] = recorded_answer(script, run.answers[number])
        return run._replace(waited=waited)

    def _do_what_is_due(self, run: Run, due: list[list[Step]]) -> bool:
        waited = False
        progress = True
        while progress:
            progress = False
            for number, session in enumerate(self._sessions):
                if due[number] and not session.is_busy:
                    step = due[number].pop(0)
                    busy_before = [other.is_busy for other in self._sessions]
                    session.start(step.statement.format(id=run.order, level=run.levels[number]))
                    busy_before[number] = True
                    until_done = session if step.ends_by_itself else None
                    waited = self._judge.settle(self._sessions, until_done) or waited
                    self._collect(run, busy_before)
                    progress = True
        return waited

    def _collect(self, run: Run, was_busy: list[bool]) -> None:
        for number, session in enumerate(self._sessions):
            if was_busy[number] and session.answer is not None:
                run.answers[number].append(session.answer)


def recorded_answer(script: Script, answers: list[Answer]) -> typing.Any:
    """The last answer of the script's call, if it is there for good."""
    is_alone = len(script.steps) == 1
    if not script.commits or not (is_alone or answers[-1].tag in ("COMMIT", "COMMIT PREPARED")):
        return None
    calls = [answer for step, answer in zip(script.steps, answers) if step.statement == script.call]
    return calls[-1].value


# ---- Judging -------------------------------------------------------------------------------------


def complaints_of_answers(run: Run) -> typing.Iterator[str]:
    for number, answers in enumerate(run.answers):
        script, level = run.scripts[number], run.levels[number]
        failed_before = False
        for answer in answers:
            allowed = set(script.may_answer)
            if level != "READ COMMITTED":
                allowed.add("40001")
            if failed_before:
                allowed.add("25P02")
            if answer.sqlstate is not None and answer.sqlstate not in allowed:
                yield f"s{number + 1} answered {answer.sqlstate}"
            failed_before = failed_before or answer.sqlstate is not None


def complaints_of_rows(judge: Judge, scenario: Scenario, run: Run, is_end: bool) -> typing.Iterator[str]:
    """The tables must say what the recorded answers say, and no more."""
    facts = expected_rows(scenario, run)
    if isinstance(facts, str):
        yield facts
        return
    query = """
        SELECT o.status, o.paid_by,
               (SELECT count(*) FROM t_order_pay p WHERE p.order_id = o.id AND p.status = 100),
               (SELECT jsonb_object_agg(p.id, p.status) FROM t_order_pay p
                WHERE p.order_id = o.id AND p.status <> 0),
               (SELECT jsonb_object_agg(r.refund_no, r.reason || ' ' || r.status)
                FROM t_refund r JOIN t_order_pay p ON p.id = r.payment_id WHERE p.order_id = o.id)
        FROM t_order o WHERE o.id = %s"""
    status, paid_by, winners, payments, refunds = judge.rows(query, (run.order,))[0]
    if winners > 1:
        yield f"DOUBLE WINNER: {winners}"
    found = (status, paid_by, payments or {}, refunds or {})
    if found != facts:
        yield f"found {found}, the answers say {facts}"
    if is_end and status == 0:
        yield "every call was repeated, and nothing was decided"


Facts = tuple[int, typing.Optional[str], dict[str, int], dict[str, str]]


def expected_rows(scenario: Scenario, run: Run) -> Facts | str:
    payments: dict[str, int] = {}
    refunds: dict[str, str] = {}
    decided = [scenario.winner] if scenario.winner else []
    if scenario.winner:
        payments[f"{run.order}-w"] = 500
        refunds[f"{run.order}-w-R1"] = "request 500"
    for script, outcome in zip(run.scripts, run.recorded):
        payment = f"{run.order}-{script.payment}"
        if outcome == "paid":
            decided.append(script.payment)
            payments[payment] = 100
        elif outcome in ("duplicate", "late"):
            payments[payment] = 200
            refunds[f"{payment}-R1"] = f"{outcome} 0"
        elif outcome is True and script.call == CLOSE:
            decided.append("closed")
        elif isinstance(outcome, str) and outcome.startswith("resolved"):
            was_refunded = outcome.endswith("true")
            payments[f"{run.order}-w"] = 300 if was_refunded else 100
            refunds[f"{run.order}-w-R1"] = "request 300" if was_refunded else "request 400"
    if len(decided) > 1:
        return f"DOUBLE WINNER: the answers decide the order twice: {decided}"
    problem = contradiction(run, decided[0] if decided else None)
    if problem:
        return problem
    if not decided:
        return (0, None, payments, refunds)
    if decided[0] == "closed":
        return (400, None, payments, refunds)
    return (100, f"{run.order}-{decided[0]}", payments, refunds)


def contradiction(run: Run, decided: str | None) -> str | None:
    """An answer that relies on something that nobody has recorded."""
    for script, outcome in zip(run.scripts, run.recorded):
        is_open_to_doubt = (
            (outcome == "duplicate" and decided in (None, "closed", script.payment))
            or (outcome == "late" and decided != "closed")
            or (outcome == "already_processed" and decided is None)
            or (outcome is False and decided in (None, "closed"))
        )
        if is_open_to_doubt:
            return f"{outcome} was answered, but the order went to {decided}"
    return None


def repeat_unrecorded(judge: Judge, run: Run) -> typing.Iterator[str]:
    """As callers do, alone and at READ COMMITTED. Each call must then be recorded."""
    for number, script in enumerate(run.scripts):
        if run.recorded[number] is None:
            run.recorded[number] = judge.rows(script.call.format(id=run.order))[0][0]
            if run.recorded[number] is None:
                yield f"s{number + 1} was answered nothing"


# ---- TAP -----------------------------------------------------------------------------------------


class Tap:
    def __init__(self) -> None:
        self._count = 0
        self.failed = 0

    def ok(self, passed: bool, what: str, details: typing.Iterable[str] = ()) -> None:
        self._count += 1
        print(f"{'ok' if passed else 'not ok'} {self._count} - {what}")
        if not passed:
            self.failed += 1
            for detail in details:
                print("".join(f"#   {line}\n" for line in detail.splitlines()), end="")
        sys.stdout.flush()

    def done(self) -> None:
        print(f"1..{self._count}")


def play_scenario(judge: Judge, scenario: Scenario, tap: Tap) -> int:
    judge.run("TRUNCATE t_order, t_order_pay, t_refund")
    sessions = [Session(scenario.session_setup) for _ in scenario.scripts]
    judge.settle(sessions)
    player = Player(judge, sessions)
    seen: set[str] = set()
    played: dict[str, Run] = {}
    for levels in scenario.level_choices:
        failures: list[str] = []
        before = len(played)
        for scripts in itertools.product(*scenario.scripts):
            lengths = tuple(len(script.steps) for script in scripts)
            for schedule in schedules(lengths, scenario.is_symmetric):
                order = f"o{len(played)}"
                judge.run(scenario.setup.format(id=order))
                run = player.play(order, scripts, levels, schedule)
                played[order] = run
                seen |= what_was_seen(run)
                found = list(complaints_of_answers(run))
                found += complaints_of_rows(judge, scenario, run, is_end=False)
                found += repeat_unrecorded(judge, run)
                found += complaints_of_rows(judge, scenario, run, is_end=True)
                if found:
                    failures.append("\n".join(found + [run.describe()]))
        what = f"{scenario.name}, {', '.join(levels)}: {len(played) - before} interleavings"
        details = failures[:SHOWN_FAILURES] + [f"{len(failures)} in all"]
        tap.ok(not failures, what, details)
    for session in sessions:
        session.close()
    broken = judge.rows("SELECT kind, id, detail FROM payonce_check() LIMIT %s", (SHOWN_FAILURES,))
    tap.ok(not broken, f"{scenario.name}: payonce_check() has nothing to say", [str(broken)])
    missing = scenario.must_see - seen
    tap.ok(not missing, f"{scenario.name}: {', '.join(sorted(scenario.must_see))} came up", [str(missing)])
    return len(played)


def what_was_seen(run: Run) -> set[str]:
    seen = {answer.sqlstate for answers in run.answers for answer in answers if answer.sqlstate}
    return seen | ({"waited"} if run.waited else set())


def prepare(judge: Judge) -> None:
    judge.run("SET client_min_messages = warning")
    judge.run("CREATE EXTENSION payonce")
    judge.run("""CREATE SERVER paused FOREIGN DATA WRAPPER payonce_http
                 OPTIONS (url 'http://127.0.0.1:9', paused 'true')""")
    judge.run("""
        CREATE ROLE interleavings_shop;
        GRANT EXECUTE ON FUNCTION pay_callback_outcome TO interleavings_shop;
        CREATE SCHEMA interleavings_traps;
        GRANT USAGE ON SCHEMA interleavings_traps TO interleavings_shop;
        CREATE FUNCTION interleavings_traps.tell(text, text) RETURNS boolean LANGUAGE plpgsql
        AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'EVIL0'; END $$;
        CREATE OPERATOR interleavings_traps.= (LEFTARG = text, RIGHTARG = text,
                                               FUNCTION = interleavings_traps.tell);
        CREATE TABLE interleavings_traps.t_order (LIKE public.t_order);
        CREATE TABLE interleavings_traps.t_order_pay (LIKE public.t_order_pay);
        CREATE TABLE interleavings_traps.t_refund (LIKE public.t_refund)""")


def takes_the_lock(judge: Judge) -> bool:
    """Whether this build decides under the advisory lock."""
    judge.run("BEGIN")
    judge.run(TWO_PAYMENTS.format(id="probe"))
    judge.run(pay("p1").format(id="probe"))
    held = judge.rows("""SELECT count(*) FROM pg_locks
                         WHERE locktype = 'advisory' AND pid = pg_backend_pid()""")[0][0]
    judge.run("ROLLBACK")
    return bool(held > 0)


def main() -> int:
    judge = Judge()
    tap = Tap()
    prepare(judge)
    expects_lock = os.environ.get("INTERLEAVINGS_WITHOUT_LOCK", "") == ""
    tap.ok(takes_the_lock(judge) == expects_lock,
           f"the build is the one {'with' if expects_lock else 'without'} the lock")
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    count = 0
    for scenario in SCENARIOS:
        if wanted in scenario.name:
            count += play_scenario(judge, scenario, tap)
    tap.ok(count > 0, f"{count} interleavings were played")
    tap.done()
    return 1 if tap.failed else 0


if __name__ == "__main__":
    sys.exit(main())
