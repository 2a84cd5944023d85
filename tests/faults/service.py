"""A `sync-service serve` process that is killed and started again on the same port."""

import asyncio
import contextlib
import signal
from pathlib import Path

import httpx2

from tests.processes import Process, reserve_port, start_command
from tests.world import PII_SENTINEL, SECRET, SECRETS, wait_until


class Service:
    """Successive processes with the same URL."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.environ = {
            "DATABASE_URL": database_url,
            "CLERK_WEBHOOK_SIGNING_SECRET": SECRET,
            "HOST": "127.0.0.1",
            "PORT": str(reserve_port()),
            "QUIET": "1",  # the log is checked below; printed, it would hide the test's own output
        }
        self.url = f"http://127.0.0.1:{self.environ['PORT']}"
        self._stack = contextlib.ExitStack()
        self.process: Process | None = None

    def start(self) -> None:
        assert self.process is None
        self.process = self._stack.enter_context(start_command("serve", cwd=self.folder, **self.environ))

    async def get_status(self, path: str) -> int | None:
        """Return the status of the response, or None if the port is closed."""
        async with httpx2.AsyncClient(timeout=15) as client:
            try:
                return (await client.get(f"{self.url}{path}")).status_code
            except httpx2.TransportError:
                return None

    async def wait_until_ready(self, seconds: float = 30) -> None:
        """Wait until /readyz returns 200."""

        async def is_ready() -> bool:
            assert self.process
            assert self.process.popen.poll() is None, f"the service ended by itself:\n{self._read_log()[-2000:]}"
            return await self.get_status("/readyz") == 200

        await wait_until(is_ready, seconds)

    async def stop(self, how: signal.Signals) -> int:
        """Send the signal, wait for the end, check the log and return the exit status."""
        assert self.process
        status = await asyncio.to_thread(self.process.stop, how)
        self._check_log()
        return status

    def close(self) -> None:
        """Kill the process if it still runs."""
        self._stack.close()
        if self.process:
            self._check_log()

    def _check_log(self) -> None:
        text = self._read_log()
        self.process = None
        self._stack.close()
        for sentinel in (PII_SENTINEL, *SECRETS):  # I4
            assert sentinel not in text, f"{sentinel} was written to the log"
        assert "Traceback" not in text, text[text.index("Traceback") - 300 :][:3000]

    def _read_log(self) -> str:
        return self.process.log.read_text() if self.process else ""
