"""`sync-service serve` as a process that is killed and started again on the same port, again and again."""

import asyncio
import contextlib
import signal
from pathlib import Path

import httpx2

from tests.processes import Process, reserve_port, start_command
from tests.world import PII_SENTINEL, SECRET, SECRETS, wait_until


class Service:
    """One process after another; only the address stays."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.environ = {
            "DATABASE_URL": database_url,
            "CLERK_WEBHOOK_SIGNING_SECRET": SECRET,
            "HOST": "127.0.0.1",
            "PORT": str(reserve_port()),
            "QUIET": "1",  # the log is read below, line by line it would bury what the test says
        }
        self.url = f"http://127.0.0.1:{self.environ['PORT']}"
        self._lives = contextlib.ExitStack()
        self.process: Process | None = None

    def start(self) -> None:
        assert self.process is None
        self.process = self._lives.enter_context(start_command("serve", cwd=self.folder, **self.environ))

    async def answers(self, path: str) -> int | None:
        """Return the status of the answer, or None where nobody listens."""
        async with httpx2.AsyncClient(timeout=15) as client:
            try:
                return (await client.get(f"{self.url}{path}")).status_code
            except httpx2.TransportError:
                return None

    async def ready(self, seconds: float = 30) -> None:
        """Wait until it says that it is ready."""

        async def is_ready() -> bool:
            assert self.process
            assert self.process.popen.poll() is None, f"the service ended by itself:\n{self._log()[-2000:]}"
            return await self.answers("/readyz") == 200

        await wait_until(is_ready, seconds)

    async def end(self, how: signal.Signals) -> int:
        """Send that signal, wait for the end, look through what was said, and return the exit status."""
        assert self.process
        status = await asyncio.to_thread(self.process.stop, how)
        self._bury()
        return status

    def close(self) -> None:
        """End it by force, if it is still there."""
        self._lives.close()
        if self.process:
            self._bury()

    def _bury(self) -> None:
        said = self._log()
        self.process = None
        self._lives.close()
        for sentinel in (PII_SENTINEL, *SECRETS):  # I4
            assert sentinel not in said, f"{sentinel} was written to the log"
        assert "Traceback" not in said, said[said.index("Traceback") - 300 :][:3000]

    def _log(self) -> str:
        return self.process.log.read_text() if self.process else ""
