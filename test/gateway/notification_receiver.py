"""A merchant's notification address for Python tests: keeps what comes, answers as it is told."""

from __future__ import annotations

import threading
import typing
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class Delivered:
    headers: dict[str, str]
    body: bytes


class Receiver:
    """`answers` are used up in their order; the last one stays."""

    def __init__(self, *answers: tuple[int, bytes]) -> None:
        self.delivered: list[Delivered] = []
        self._answers = list(answers)
        self._lock = threading.Lock()
        # While it is cleared, answers wait: so a test sees what happens before an acknowledgement.
        self.may_answer = threading.Event()
        self.may_answer.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer = receiver.take(Delivered(dict(self.headers.items()), body))
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *arguments: typing.Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/notify"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def take(self, delivered: Delivered) -> tuple[int, bytes]:
        with self._lock:
            self.delivered.append(delivered)
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        self.may_answer.wait()
        return answer

    def stop(self) -> None:
        self.may_answer.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
