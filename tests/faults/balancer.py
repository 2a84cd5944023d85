"""HAProxy with the configuration of deploy/ha/, in front of one or two services."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.service import Service
from tests.processes import HANG_SECONDS, reserve_port
from tests.tools import require_tool

CONFIGURATION = Path(__file__).resolve().parents[2] / "deploy" / "ha" / "haproxy.cfg"


@contextlib.contextmanager
def run_haproxy(services: list[Service], log: Path) -> Iterator[str]:
    """Run HAProxy within the block, and yield its URL."""
    port = reserve_port()
    address = f"127.0.0.1:{port}"
    names = {"WEB2": "127.0.0.1:1"}  # no server listens there
    names |= {f"WEB{number}": service.url.removeprefix("http://") for number, service in enumerate(services, 1)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [require_tool("haproxy"), "-db", "-f", CONFIGURATION],
            env=os.environ | names | {"LISTEN": address},
            stdout=output,
            stderr=output,
        )
    try:
        _wait_for_port(port, process, log)
        yield f"http://{address}"
    finally:
        process.kill()
        process.wait()


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + HANG_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
