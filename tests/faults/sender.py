"""A sender that behaves like Svix with a shorter schedule: after eight attempts it gives a message up."""

import asyncio
import random
import time
from dataclasses import dataclass, field

import httpx2

from tests.faults.expected_table import Message
from tests.world import PII_SENTINEL, sign_event

# Svix retries after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h and 10 h. Here the longest pause is 3 s.
SCHEDULE = (0, 0.05, 0.2, 0.5, 1, 2, 3, 3)

# Svix's timeout for a response.
ATTEMPT_TIMEOUT = 15.0

# The service's limit for every response.
RESPONSE_TIMEOUT = 10.0


@dataclass
class Delivery:
    """A message with its attempts and its last response."""

    message: Message
    attempts: int = 0
    last_response: str = ""
    acknowledged: bool = False


@dataclass(frozen=True)
class AttemptResult:
    """The result of one attempt: a status, or the error if there was no response."""

    status: int | None
    text: str
    seconds: float


@dataclass
class Sender:
    """Sends each attempt to the next of several processes."""

    urls: list[str]
    rng: random.Random
    schedule: tuple[float, ...] = SCHEDULE
    max_concurrent: int = 16
    deliveries: list[Delivery] = field(default_factory=list)
    results: list[AttemptResult] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.max_concurrent)
        # uvicorn closes connections that are idle for 5 s, so the client must not reuse them near that limit.
        limits = httpx2.Limits(max_connections=None, keepalive_expiry=2)
        self.client = httpx2.AsyncClient(timeout=ATTEMPT_TIMEOUT, limits=limits)

    async def deliver(self, message: Message) -> Delivery:
        """Send a message until it is acknowledged or the attempts are used up."""
        delivery = Delivery(message)
        self.deliveries.append(delivery)
        await self._attempt_all(delivery)
        return delivery

    async def resend(self) -> None:
        """Send all messages again that were given up, as the owner can from Svix's dashboard after a fault."""
        given_up = [delivery for delivery in self.deliveries if not delivery.acknowledged]
        async with asyncio.TaskGroup() as group:
            for delivery in given_up:
                group.create_task(self._attempt_all(delivery))

    async def _attempt_all(self, delivery: Delivery) -> None:
        for pause in self.schedule:
            await asyncio.sleep(pause * self.rng.uniform(0.8, 1.2))
            async with self._slots:
                result = await self._attempt(delivery)
            delivery.last_response = result.text
            if result.status is not None and 200 <= result.status < 300:
                delivery.acknowledged = True
                return

    async def _attempt(self, delivery: Delivery) -> AttemptResult:
        url = self.urls[len(self.results) % len(self.urls)]
        delivery.attempts += 1
        headers = sign_event(delivery.message.body, delivery.message.id) | {"content-type": "application/json"}
        began = time.monotonic()
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT):  # httpx2's read timeout restarts with every byte
                got = await self.client.post(url, content=delivery.message.body, headers=headers)
            assert PII_SENTINEL not in got.text  # I5
            result = AttemptResult(got.status_code, got.text, time.monotonic() - began)
        # AttributeError: raised by anyio if a connection breaks while it is established.
        except (httpx2.TransportError, TimeoutError, AttributeError) as error:
            result = AttemptResult(None, type(error).__name__, time.monotonic() - began)
        self.results.append(result)
        return result

    # --- results ----------------------------------------------------------------------------------------------------

    @property
    def acknowledged(self) -> set[str]:
        """The IDs of the messages that got at least one 2xx."""
        return {delivery.message.id for delivery in self.deliveries if delivery.acknowledged}

    def find_late(self) -> list[AttemptResult]:
        """Return the attempts with a response after the limit, and those that timed out."""
        return [result for result in self.results if result.seconds > RESPONSE_TIMEOUT or "Timeout" in result.text]

    def find_unanswered(self) -> list[AttemptResult]:
        """Return the attempts that met a closed port or a broken connection."""
        return [result for result in self.results if result.status is None]

    def find_refused_statuses(self) -> set[int]:
        """Return the statuses other than 2xx and 503; no valid event should get one."""
        return {
            result.status for result in self.results if result.status not in {None, 503} and result.status // 100 != 2
        }
