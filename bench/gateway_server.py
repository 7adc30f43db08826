"""The gateway that dispatch is measured against: an nginx of our own, which answers every refund.

It answers at once, or after a delay (its echo module's echo_sleep is a timer of its event loop, so
a request that waits costs nothing). /logged/... also writes down when each request had arrived.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import typing
from pathlib import Path

ANSWER = '{"status":"succeeded","refund_id":"bench"}'
MODULE = "/usr/lib/nginx/modules/ngx_http_echo_module.so"
DELAYS_MS = (0, 20, 200)
START_LIMIT_S = 10

CONFIG = """
load_module {module};
daemon off;
# One process, so that it is found and ended like everything that this run has started.
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_rlimit_nofile 4096;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    default_type application/json;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    # By default a connection is closed after 1000 requests.
    keepalive_requests 100000000;
    keepalive_timeout 75s;
    # The time at which the request was complete is the log's time less the time that it took.
    log_format arrivals '$http_idempotency_key $msec $request_time';
    server {{
        listen 127.0.0.1:{port} backlog=2048;
{locations}
    }}
}}
"""


def location(prefix: str, delay_ms: int, log: str) -> str:
    if delay_ms == 0:
        answer = f"return 200 '{ANSWER}';"
    else:
        answer = f"echo_sleep {delay_ms / 1000}; echo '{ANSWER}';"
    return f"        location /{prefix}{delay_ms}/refunds {{ {log} {answer} }}"


class Arrival(typing.NamedTuple):
    """When a request was complete at nginx, whose clock ticks in milliseconds: in the middle of one."""

    refund_no: str
    at: float


class GatewayServer:
    """A running nginx; a context manager that ends it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, delay_ms: int, logged: bool = False) -> str:
        return f"http://127.0.0.1:{self.port}/{'logged/' if logged else ''}{delay_ms}"

    def __enter__(self) -> GatewayServer:
        self.folder.mkdir(parents=True, exist_ok=True)
        # The port is free when it is chosen; somebody may take it before nginx does.
        for _ in range(5):
            if self._start():
                return self
        raise RuntimeError(f"nginx does not start: see {self.folder}/error.log")

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def _start(self) -> bool:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        log = f"access_log {self.folder}/arrivals arrivals;"
        locations = [location("", delay, "") for delay in DELAYS_MS]
        locations += [location("logged/", delay, log) for delay in DELAYS_MS]
        config = self.folder / "nginx.conf"
        config.write_text(CONFIG.format(module=MODULE, folder=self.folder, port=self.port,
                                        locations="\n".join(locations)))
        program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/sbin")
        if program is None:
            raise RuntimeError("nginx is not installed")
        with open(self.folder / "output", "ab") as output:
            self._process = subprocess.Popen(
                [program, "-p", str(self.folder), "-c", str(config),
                 "-e", str(self.folder / "error.log")],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        deadline = time.monotonic() + START_LIMIT_S
        while self._process.poll() is None and time.monotonic() < deadline:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", self.port)) == 0:
                    return True
            time.sleep(0.02)
        return False

    def forget_arrivals(self) -> None:
        # nginx appends to the file it has open.
        open(self.folder / "arrivals", "wb").close()

    def arrivals(self) -> list[Arrival]:
        found = []
        for line in (self.folder / "arrivals").read_text().splitlines():
            refund_no, logged_at, took_s = line.split(" ")
            found.append(Arrival(refund_no, float(logged_at) - float(took_s) + 0.0005))
        return found
