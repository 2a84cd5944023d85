"""Posts committed changes to the app: in order for one user, many users at a time, each at least once."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import structlog

from sync_service.errors import DatabaseError
from sync_service.store.access import Store
from sync_service.store.deliveries import (
    Notification,
    Result,
    claim_notifications,
    seconds_until_attempt,
    store_results,
)
from sync_service.sync.change_signal import wait_for
from sync_service.sync.notification import Reply, build_body, judge, make_id, sign

log = structlog.get_logger()

MAX_CONCURRENT = 64

# Seconds for one request, as Svix allows them.
TIMEOUT = 15.0

# Bytes of a response that are read, so that the connection can serve the next request.
MAX_RESPONSE_BYTES = 1024

# Seconds between two looks for changes of other processes: commands, and services on other machines that have crashed.
# A look without a change costs 0.3 ms of CPU here and 0.1 ms in PostgreSQL. LISTEN would be missed behind a pooler.
POLL = 2.0

# After so many seconds without a change the pause increases up to the second number, so that a database that sleeps
# while it is idle (Neon) can sleep.
ACTIVE = 3600.0
MAX_PAUSE = 900.0


def create_client(url: str) -> aiohttp.ClientSession:
    """Return the client of the deliveries, with the proxy that the environment names for the URL.

    A request takes a fifth of the time that it takes with httpx2. `trust_env` would look for the proxy, and for a
    password in a file, in another thread for each request. Call it while an event loop runs.
    """
    target = urlsplit(url)
    proxy = None if proxy_bypass(target.hostname or "") else getproxies().get(target.scheme)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=MAX_CONCURRENT),
        timeout=aiohttp.ClientTimeout(),  # `_post` has the limit; a second timer costs a tenth of the time
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        read_bufsize=MAX_RESPONSE_BYTES,
        proxy=proxy,
    )


def limit_pause(quiet: float) -> float:
    """Return the longest pause after so many seconds without a change (pure)."""
    return min(max(POLL, quiet - ACTIVE), MAX_PAUSE)


class Notifier:
    """The deliveries of one process. `wake` is set after each commit; `on_outcome` gets each outcome."""

    def __init__(
        self,
        store: Store,
        client: aiohttp.ClientSession,
        url: str,
        secrets: Sequence[str],
        on_outcome: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.wake = asyncio.Event()
        self._store = store
        self._client = client
        self._url = url
        self._secrets = secrets
        self._on_outcome = on_outcome
        self._tasks: set[asyncio.Task[None]] = set()
        self._results: list[Result] = []

    async def run(self) -> None:
        """Work until cancelled. An outage of the database is logged, and the next round follows."""
        loop = asyncio.get_running_loop()
        active_at = loop.time()
        try:
            while True:
                if self.wake.is_set() or self._tasks:
                    active_at = loop.time()
                self.wake.clear()
                pause = await self._run_round()
                await wait_for(self.wake, min(pause, limit_pause(loop.time() - active_at)))
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._client.close()

    async def run_once(self) -> None:
        """Send all changes that are due, and store the results."""
        while True:
            await self._run_round()
            if not self._tasks and not self._results:
                return
            while self._tasks:
                await asyncio.wait(self._tasks)

    async def _run_round(self) -> float:
        """Store results, start what is due; return the seconds until more is due."""
        try:
            await self._store_results()
            return await self._start_due()
        except DatabaseError as error:
            log.warning("notifications_delayed", reason=error.reason)
        except Exception as error:  # a bug in one round must not end the others
            log.critical("unhandled_exception", exc_info=error)
        return POLL

    async def _start_due(self) -> float:
        free = MAX_CONCURRENT - len(self._tasks)
        if free <= 0:
            return TIMEOUT
        async with self._store.database.acquire() as connection:
            notifications = await claim_notifications(self._store, connection, free)
            seconds = None if notifications else await seconds_until_attempt(connection)
        for notification in notifications:
            task = asyncio.create_task(self._deliver(notification))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if notifications:
            self.wake.set()
        return MAX_PAUSE if seconds is None else max(seconds, 0.0)

    async def _deliver(self, notification: Notification) -> None:
        result = await self._send(notification)
        if result.reason:
            level = log.warning if result.pause else log.error
            level("notification_failed", change=make_id(notification), reason=result.reason, outcome=result.outcome)
        self._on_outcome(result.outcome)
        self._results.append(result)
        self.wake.set()

    async def _send(self, notification: Notification) -> Result:
        message_id, body = make_id(notification), build_body(notification)
        headers = sign(message_id, body, datetime.now(UTC), self._secrets)
        reply = await self._post(body, dict(headers))
        return judge(notification, reply, datetime.now(UTC))

    async def _post(self, body: str, headers: dict[str, str]) -> Reply:
        reply = Reply()
        try:
            async with asyncio.timeout(TIMEOUT):
                async with self._client.post(
                    self._url, data=body.encode(), headers=headers, allow_redirects=False
                ) as response:
                    reply = Reply(response.status, response.headers.get("retry-after"))
                    await _read_a_little(response)
        except TimeoutError:
            return Reply(error="timeout")
        except (aiohttp.ClientError, OSError) as error:
            # After a status only the body of the reply is broken.
            return reply if reply.status else Reply(error=type(error).__name__)
        return reply

    async def _store_results(self) -> None:
        if self._results:
            count = len(self._results)
            async with self._store.database.acquire() as connection:
                await store_results(connection, self._results[:count])
            del self._results[:count]


async def _read_a_little(response: aiohttp.ClientResponse) -> None:
    """Read up to `MAX_RESPONSE_BYTES` bytes; the end of the block closes the connection of a longer response."""
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > MAX_RESPONSE_BYTES:
            return
