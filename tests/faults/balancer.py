"""HAProxy with the configuration of deploy/ha/, in front of one or two services."""

import asyncio
import contextlib
import csv
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.faults.service import Service
from tests.processes import HANG_SECONDS, reserve_port
from tests.tools import require_tool
from tests.world import wait_until

CONFIGURATION = Path(__file__).resolve().parents[2] / "deploy" / "ha" / "haproxy.cfg"


@dataclass(frozen=True)
class Balancer:
    """A running HAProxy: its URL, and the socket for commands."""

    url: str
    socket: Path

    async def drain(self, server: str) -> None:
        """Send a server no new requests, and wait for those that it has."""
        await self._set_state(server, "drain")
        await wait_until(lambda: self._is_idle(server))

    async def readmit(self, server: str) -> None:
        """Send a server requests again, and wait until it has passed its health checks."""
        await self._set_state(server, "ready")
        await wait_until(lambda: self._is_up(server))

    async def _set_state(self, server: str, state: str) -> None:
        for backend in ("ready", "alive"):
            assert await self._run(f"set server {backend}/{server} state {state}") == "\n"

    async def _is_idle(self, server: str) -> bool:
        return all(line["scur"] == "0" for line in await self._read_states(server))

    async def _is_up(self, server: str) -> bool:
        return all(line["status"] == "UP" for line in await self._read_states(server))

    async def _read_states(self, server: str) -> list[dict[str, str]]:
        lines = csv.DictReader((await self._run("show stat")).removeprefix("# ").splitlines())
        return [line for line in lines if line["svname"] == server]

    async def _run(self, command: str) -> str:
        reader, writer = await asyncio.open_unix_connection(self.socket)
        writer.write(f"{command}\n".encode())
        response = (await reader.read()).decode()
        writer.close()
        return response


@contextlib.contextmanager
def run_haproxy(services: list[Service], log: Path) -> Iterator[Balancer]:
    """Run HAProxy within the block; the services are its servers `web1` and `web2`."""
    port = reserve_port()
    names = {"WEB2": "127.0.0.1:1"}  # no server listens there
    names |= {f"WEB{number}": service.url.removeprefix("http://") for number, service in enumerate(services, 1)}
    with tempfile.TemporaryDirectory(prefix="sync-haproxy-") as folder, log.open("wb") as output:
        balancer = Balancer(f"http://127.0.0.1:{port}", Path(folder, "admin.sock"))
        process = subprocess.Popen(
            [require_tool("haproxy"), "-db", "-f", CONFIGURATION],
            env=os.environ | names | {"LISTEN": f"127.0.0.1:{port}", "ADMIN_SOCKET": str(balancer.socket)},
            stdout=output,
            stderr=output,
        )
        try:
            _wait_for_port(port, process, log)
            yield balancer
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
