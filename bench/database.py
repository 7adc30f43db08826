"""The PostgreSQL server that is measured: connections, settings, pgbench."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
import typing
from pathlib import Path

import psycopg2
import psycopg2.errors
import psycopg2.extensions

Row = tuple[typing.Any, ...]
Parameters = dict[str, typing.Any]


class PgbenchFailed(Exception):
    """A client of pgbench was ended by an error."""


class Database:
    """A session in autocommit mode, of the server that PGHOST and PGPORT name."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name or os.environ.get("PGDATABASE", "postgres")
        self._connection = self._connect()

    def _connect(self) -> psycopg2.extensions.connection:
        connection = psycopg2.connect(dbname=self.name)
        connection.autocommit = True
        return connection

    def run(self, sql: str, parameters: Parameters | None = None) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, parameters)

    def rows(self, sql: str, parameters: Parameters | None = None) -> list[Row]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall()

    def value(self, sql: str, parameters: Parameters | None = None) -> typing.Any:
        return self.rows(sql, parameters)[0][0]

    def run_file(self, path: Path) -> None:
        self.run(path.read_text())

    def wait_for(self, sql: str, limit_s: float = 60) -> None:
        deadline = time.monotonic() + limit_s
        while not self.value(sql):
            if time.monotonic() > deadline:
                raise TimeoutError(f"still false after {limit_s:.0f} s: {sql}")
            time.sleep(0.02)

    def set(self, **settings: str) -> None:
        """Settings that a reload changes; in force for this session and new ones at return."""
        for name, value in settings.items():
            quoted = ".".join(f'"{part}"' for part in name.replace("__", ".").split("."))
            self.run(f"ALTER SYSTEM SET {quoted} = '{value}'")
        self.run("SELECT pg_reload_conf()")
        for name, value in settings.items():
            self.wait_for(f"SELECT current_setting('{name.replace('__', '.')}') = '{value}'")

    def restart(self, **settings: str) -> None:
        """Settings that need a restart."""
        for name, value in settings.items():
            self.run(f"ALTER SYSTEM SET {name} = '{value}'")
        data = self.value("SHOW data_directory")
        self._connection.close()
        subprocess.run(["pg_ctl", "restart", "--silent", "--wait", f"--pgdata={data}", "--mode=fast",
                        f"--log={data}/../log/server.log"], check=True, stdin=subprocess.DEVNULL)
        self._connection = self._connect()

    def truncate(self, tables: str) -> None:
        """Also when the worker looks round at this moment, and takes its locks in another order."""
        for _ in range(10):
            try:
                return self.run(f"TRUNCATE {tables}")
            except psycopg2.errors.DeadlockDetected:
                time.sleep(0.1)
        raise TimeoutError(f"{tables}: always a deadlock")

    def settle(self, *tables: str) -> None:
        """What the next run finds is on disk, with statistics, and nothing is left to vacuum."""
        self.run(f"VACUUM ANALYZE {', '.join(tables)}")
        self.run("CHECKPOINT")

    def close(self) -> None:
        self._connection.close()


class Pgbench(typing.NamedTuple):
    """What a run of pgbench reports."""

    transactions: int
    per_s: float


def pgbench(database: str, script: str, clients: int, *options: str,
            variables: dict[str, int | str] | None = None) -> Pgbench:
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        threads = min(clients, os.cpu_count() or 1)
        command = ["pgbench", "--no-vacuum", "--protocol=prepared", f"--client={clients}",
                   f"--jobs={threads}", f"--file={file.name}", *options]
        for name, value in (variables or {}).items():
            command.append(f"--define={name}={value}")
        done = subprocess.run([*command, database], capture_output=True, text=True, check=False,
                              stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise PgbenchFailed(done.stderr.strip()[-2000:])
    transactions = re.search(r"number of transactions actually processed: (\d+)", done.stdout)
    per_s = re.search(r"^tps = ([0-9.]+)", done.stdout, flags=re.MULTILINE)
    if transactions is None or per_s is None:
        raise PgbenchFailed(done.stdout)
    return Pgbench(int(transactions[1]), float(per_s[1]))
