"""The app's endpoint for notifications in a process of its own, which a test kills.

It writes a line for each change that it accepts, and then sends the response, as an app commits its work. A line that
is written stays after a kill. Some requests are refused, slow, or accepted without a response.
"""

import json
import os
import random
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook

from sync_service.process import die_with_parent
from tests.processes import reserve_port

SECRET = "whsec_bm90aWZ5L1NFQ1JFVC9vZi90aGUvYXBw"


class ReceiverProcess:
    """Successive processes with the same URL and the same file."""

    def __init__(self, folder: Path) -> None:
        self._port = reserve_port()
        self._file = folder / "received.jsonl"
        self._file.touch()
        self._process: subprocess.Popen[bytes] | None = None
        self.environ = {"SYNC_NOTIFY_URL": f"http://127.0.0.1:{self._port}/", "SYNC_NOTIFY_SECRET": SECRET}

    def start(self) -> None:
        words = [sys.executable, "-m", "tests.faults.receiver", str(self._port), str(self._file)]
        self._process = subprocess.Popen(words)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    def read(self) -> list[dict[str, Any]]:
        """Return the accepted changes, in order."""
        return [json.loads(line) for line in self._file.read_text().splitlines()]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    file = -1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        message = Webhook(SECRET).verify(body, dict(self.headers))
        assert message["id"] == self.headers["webhook-id"]
        chance = random.random()
        if chance < 0.03:
            self._respond(503)
            return
        if chance < 0.08:
            time.sleep(0.3)
        line = {"id": message["id"], "type": message["type"], "clerk_id": message["data"]["clerk_id"]}
        os.write(self.file, json.dumps(line).encode() + b"\n")
        if chance > 0.97:
            self.close_connection = True
            return
        self._respond(204)

    def _respond(self, status: int) -> None:
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Write no log."""


def main() -> None:
    """Serve on the port of the first argument, and write to the file of the second one."""
    die_with_parent()
    _Handler.file = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND)
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Handler).serve_forever()


if __name__ == "__main__":
    main()
