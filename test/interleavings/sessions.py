"""Database sessions that are stepped by hand, and that say whether they wait for one another.

psycopg2 sends a statement without waiting for its answer. Whether a session that has not answered
waits for a lock is asked of the server, as isolationtester does: no time that passes decides.
"""

from __future__ import annotations

import select
import time
import typing

import psycopg2
import psycopg2.extensions

# Never waited for, unless something hangs.
PATIENCE_S = 60.0
# How long an answer is waited for before the server is asked about locks.
ANSWER_S = 0.002


class Stuck(Exception):
    """A session neither answers nor waits for another one."""


class Answer(typing.NamedTuple):
    """What a statement came to: its only value, and its command tag or its SQLSTATE."""

    value: typing.Any
    tag: str | None
    sqlstate: str | None


class Session:
    """A connection that does one statement at a time, in the background."""

    def __init__(self, setup: str) -> None:
        self._connection = psycopg2.connect("", async_=1)
        self._cursor: typing.Any = None
        self._connect()
        self.pid = int(self._connection.get_backend_pid())
        self.answer: Answer | None = None
        self.start(setup)

    def start(self, statement: str) -> None:
        self.answer = None
        self._cursor = self._connection.cursor()
        self._cursor.execute(statement)

    @property
    def is_busy(self) -> bool:
        return self.answer is None

    def fileno(self) -> int:
        return int(self._connection.fileno())

    def poll(self) -> None:
        """Takes the answer, if it has come."""
        try:
            if self._connection.poll() != psycopg2.extensions.POLL_OK:
                return
        except psycopg2.Error as error:
            if error.pgcode is None:
                raise
            self.answer = Answer(None, None, error.pgcode)
            return
        has_row = self._cursor.description is not None
        row = self._cursor.fetchone() if has_row else None
        self.answer = Answer(row[0] if row else None, self._cursor.statusmessage, None)

    def close(self) -> None:
        self._connection.close()

    def _connect(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while (state := self._connection.poll()) != psycopg2.extensions.POLL_OK:
            to_read = [self] if state == psycopg2.extensions.POLL_READ else []
            to_write = [self] if state == psycopg2.extensions.POLL_WRITE else []
            select.select(to_read, to_write, [], ANSWER_S)
            if time.monotonic() > deadline:
                raise Stuck("no connection")


class Judge:
    """The connection that prepares and judges; it is never stepped."""

    def __init__(self) -> None:
        self._connection = psycopg2.connect("")
        self._connection.autocommit = True
        self._cursor = self._connection.cursor()

    def run(self, statement: str, values: typing.Sequence[typing.Any] = ()) -> None:
        self._cursor.execute(statement, values or None)

    def rows(self, query: str, values: typing.Sequence[typing.Any] = ()) -> list[tuple[typing.Any, ...]]:
        self._cursor.execute(query, values or None)
        return typing.cast(list[tuple[typing.Any, ...]], self._cursor.fetchall())

    def all_wait(self, waiting: list[Session], sessions: list[Session]) -> bool:
        """Whether each of `waiting` waits for one of `sessions` or for a prepared transaction,
        whose process is 0."""
        query = """SELECT bool_and(pg_blocking_pids(pid) && %s::integer[])
                   FROM unnest(%s::integer[]) pid"""
        holders = [0] + [session.pid for session in sessions]
        return bool(self.rows(query, (holders, [session.pid for session in waiting]))[0][0])

    def settle(self, sessions: list[Session], until_done: Session | None = None) -> bool:
        """Until each session has answered or waits for another; `until_done` must answer. True if
        one of them waits."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            busy = [session for session in sessions if session.is_busy]
            if not busy:
                return False
            select.select(busy, [], [], ANSWER_S)
            for session in busy:
                session.poll()
            busy = [session for session in busy if session.is_busy]
            if not busy:
                return False
            # That all wait in one look: who waits for a session that still works waits no longer
            # than that.
            if until_done not in busy and self.all_wait(busy, sessions):
                return True
            if time.monotonic() > deadline:
                raise Stuck(f"{len(busy)} sessions neither answer nor wait")
