"""A PostgreSQL server on a port of 127.0.0.1 that can be killed, frozen and started again with the same data."""

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import asyncpg

from tests.processes import has_ended_within, reserve_port

# The server has a parent process of its own. So it can be started while this process runs an event loop, and it ends
# with this process in any case, because then the pipe closes.
PARENT = """
import json, sys
from pathlib import Path
from sync_service.dev.embedded import run_embedded_postgres
with run_embedded_postgres(Path(sys.argv[1]), settings=json.loads(sys.argv[2])) as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""

START_TIMEOUT = 60


class Engine:
    """A durable server: `fsync` is on, as in PostgreSQL's defaults."""

    def __init__(self, data: Path, **settings: str) -> None:
        self.data = data
        self.port = reserve_port()
        self.settings = {"listen_addresses": "127.0.0.1", "port": str(self.port), **settings}
        self._parent: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def dsn(self, database: str, port: int | None = None, query: str = "") -> str:
        """Return the DSN of a database, through the port of the server or of a proxy in front of it."""
        return f"postgresql://postgres@127.0.0.1:{port or self.port}/{database}{query}"

    def start(self) -> None:
        """Start the server and return once it accepts connections."""
        words = [sys.executable, "-c", PARENT, str(self.data), json.dumps(self.settings)]
        self._parent = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._parent.stdout
        readable, _, _ = select.select([self._parent.stdout], [], [], START_TIMEOUT)
        line = self._parent.stdout.readline() if readable else b""
        log = self.data.with_name(f"{self.data.name}.log")
        assert line, f"PostgreSQL did not start:\n{log.read_text()[-2000:] if log.exists() else ''}"
        self._pid = int(line)

    def processes(self) -> list[int]:
        """Return the process IDs of the postmaster and its children."""
        listed = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout
        pairs = [line.split() for line in listed.splitlines()[1:]]
        return [self._pid, *(int(pid) for pid, parent in pairs if int(parent) == self._pid)]

    def is_running(self) -> bool:
        return not has_ended_within(self._pid, 0)

    def kill(self) -> None:
        """Kill all processes at once, like a power cut without the loss of the kernel's cache."""
        victims = self.processes()
        self._signal(victims, signal.SIGKILL)
        assert all(has_ended_within(pid) for pid in victims), "PostgreSQL outlived SIGKILL"
        self.stop()

    def freeze(self) -> None:
        """Stop all processes but keep their connections. The second round catches children created meanwhile."""
        for _ in range(2):
            self._signal(self.processes(), signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(reversed(self.processes()), signal.SIGCONT)

    def stop(self) -> None:
        """Shut down in order, if the server runs."""
        if self._parent is None:
            return
        self.thaw()
        try:
            self._parent.communicate(timeout=40)  # closes the pipe, on which the parent process waits
        finally:
            self._parent.kill()
            self._parent = None

    def _signal(self, pids: Iterable[int], what: signal.Signals) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, what)

    @contextlib.asynccontextmanager
    async def connect(self, database: str, seconds: float = 30) -> AsyncIterator[asyncpg.Connection]:
        """Yield a connection; wait for a server that is still recovering."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                connection = await asyncpg.connect(self.dsn(database), timeout=10)
                break
            except (OSError, asyncpg.PostgresError):
                assert time.monotonic() < deadline, "PostgreSQL did not come back"
                await asyncio.sleep(0.05)
        try:
            yield connection
        finally:
            connection.terminate()  # uvloop's event loop does not close with an open connection


@contextlib.contextmanager
def run_engine(data: Path, **settings: str) -> Iterator[Engine]:
    """Run a server within the block."""
    engine = Engine(data, **settings)
    try:
        engine.start()
        yield engine
    finally:
        engine.stop()
