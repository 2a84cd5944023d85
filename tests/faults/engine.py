"""A PostgreSQL on a port of 127.0.0.1 that can be killed, frozen and started again on the same data."""

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

# The server is a child of a process of its own: it may be started while a loop runs in this one, and it goes when
# this one does, however that ends, for then the pipe is closed.
KEEPER = """
import json, sys
from pathlib import Path
from sync_service.postgres.embedded import embedded_postgres
with embedded_postgres(Path(sys.argv[1]), settings=json.loads(sys.argv[2])) as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""

START_SECONDS = 60


class Engine:
    """A durable server: `fsync` is on, as PostgreSQL's default is."""

    def __init__(self, data: Path, **settings: str) -> None:
        self.data = data
        self.port = reserve_port()
        self.settings = {"listen_addresses": "127.0.0.1", "port": str(self.port), **settings}
        self._keeper: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def dsn(self, database: str, port: int | None = None, query: str = "") -> str:
        """Return the address of a database, at the server itself or at what stands in front of it."""
        return f"postgresql://postgres@127.0.0.1:{port or self.port}/{database}{query}"

    def start(self) -> None:
        """Start, and return once it takes connections."""
        words = [sys.executable, "-c", KEEPER, str(self.data), json.dumps(self.settings)]
        self._keeper = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._keeper.stdout
        readable, _, _ = select.select([self._keeper.stdout], [], [], START_SECONDS)
        line = self._keeper.stdout.readline() if readable else b""
        log = self.data.with_name(f"{self.data.name}.log")
        assert line, f"PostgreSQL did not start:\n{log.read_text()[-2000:] if log.exists() else ''}"
        self._pid = int(line)

    def processes(self) -> list[int]:
        """Return the postmaster and its children."""
        listed = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout
        pairs = [line.split() for line in listed.splitlines()[1:]]
        return [self._pid, *(int(pid) for pid, parent in pairs if int(parent) == self._pid)]

    def alive(self) -> bool:
        return not has_ended_within(self._pid, 0)

    def kill(self) -> None:
        """End all of it at once, as a power cut does, but for what the kernel has already got."""
        victims = self.processes()
        self._signal(victims, signal.SIGKILL)
        assert all(has_ended_within(pid) for pid in victims), "PostgreSQL outlived SIGKILL"
        self.stop()

    def freeze(self) -> None:
        """Let it keep its connections and do nothing. Twice: a child may have been born meanwhile."""
        for _ in range(2):
            self._signal(self.processes(), signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(reversed(self.processes()), signal.SIGCONT)

    def stop(self) -> None:
        """Stop in good order, if it runs."""
        if self._keeper is None:
            return
        self.thaw()
        try:
            self._keeper.communicate(timeout=40)  # closes the pipe, which is what the keeper waits for
        finally:
            self._keeper.kill()
            self._keeper = None

    def _signal(self, pids: Iterable[int], what: signal.Signals) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, what)

    @contextlib.asynccontextmanager
    async def connected(self, database: str, seconds: float = 30) -> AsyncIterator[asyncpg.Connection]:
        """Yield a connection, also to a server that is still recovering."""
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
            connection.terminate()  # a loop of uvloop with one left open would never close


@contextlib.contextmanager
def engine_on(data: Path, **settings: str) -> Iterator[Engine]:
    """Run a server for the length of the block, whatever is done to it there."""
    engine = Engine(data, **settings)
    try:
        engine.start()
        yield engine
    finally:
        engine.stop()
