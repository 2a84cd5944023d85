"""A sender that behaves like Svix, with its schedule compressed: eight attempts, then it gives a message up."""

import asyncio
import random
import time
from dataclasses import dataclass, field

import httpx2

from tests.faults.truth import Message
from tests.world import PII_SENTINEL, sign_event

# Svix: at once, then after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h. Here the longest is 3 s.
SCHEDULE = (0, 0.05, 0.2, 0.5, 1, 2, 3, 3)

# Svix waits that long for an answer.
PATIENCE = 15.0

# What the contract promises of every answer.
PROMISE = 10.0


@dataclass
class Delivery:
    """A message on its way, and what came of it."""

    message: Message
    attempts: int = 0
    answer: str = ""
    acknowledged: bool = False


@dataclass(frozen=True)
class Answer:
    """What one attempt met: a status, or the error there was instead of an answer."""

    status: int | None
    text: str
    seconds: float


@dataclass
class Sender:
    """Sends to several processes in turn, each attempt to the next one."""

    urls: list[str]
    rng: random.Random
    schedule: tuple[float, ...] = SCHEDULE
    at_once: int = 16
    deliveries: list[Delivery] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.at_once)
        # uvicorn closes a connection that was idle for 5 s; nobody should write into one that is just being closed.
        limits = httpx2.Limits(max_connections=None, keepalive_expiry=2)
        self.client = httpx2.AsyncClient(timeout=PATIENCE, limits=limits)

    async def deliver(self, message: Message) -> Delivery:
        """Send a message until it is acknowledged, or the attempts are used up."""
        delivery = Delivery(message)
        self.deliveries.append(delivery)
        await self._attempt_all(delivery)
        return delivery

    async def recover(self) -> None:
        """Send again what was given up, as the owner would from the dashboard once the fault is over."""
        given_up = [delivery for delivery in self.deliveries if not delivery.acknowledged]
        async with asyncio.TaskGroup() as group:
            for delivery in given_up:
                group.create_task(self._attempt_all(delivery))

    async def _attempt_all(self, delivery: Delivery) -> None:
        for pause in self.schedule:
            await asyncio.sleep(pause * self.rng.uniform(0.8, 1.2))
            async with self._slots:
                answer = await self._attempt(delivery)
            delivery.answer = answer.text
            if answer.status is not None and 200 <= answer.status < 300:
                delivery.acknowledged = True
                return

    async def _attempt(self, delivery: Delivery) -> Answer:
        url = self.urls[len(self.answers) % len(self.urls)]
        delivery.attempts += 1
        headers = sign_event(delivery.message.body, delivery.message.id) | {"content-type": "application/json"}
        began = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):  # httpx2's own counts from byte to byte
                got = await self.client.post(url, content=delivery.message.body, headers=headers)
            assert PII_SENTINEL not in got.text  # I5
            answer = Answer(got.status_code, got.text, time.monotonic() - began)
        # AttributeError: anyio's, of a connection that broke in the instant in which it was made.
        except (httpx2.TransportError, TimeoutError, AttributeError) as error:
            answer = Answer(None, type(error).__name__, time.monotonic() - began)
        self.answers.append(answer)
        return answer

    # --- what is asked afterwards ---------------------------------------------------------------------------------

    @property
    def acknowledged(self) -> set[str]:
        """The IDs of the messages that were answered 2xx at least once."""
        return {delivery.message.id for delivery in self.deliveries if delivery.acknowledged}

    def late(self) -> list[Answer]:
        """Return the answers that came later than promised, and those that never came though nobody hung up."""
        return [answer for answer in self.answers if answer.seconds > PROMISE or "Timeout" in answer.text]

    def unanswered(self) -> list[Answer]:
        """Return the attempts that met a closed door or a connection that broke."""
        return [answer for answer in self.answers if answer.status is None]

    def refused(self) -> set[int]:
        """Return the statuses other than 2xx and 503, which no genuine event should meet."""
        return {a.status for a in self.answers if a.status is not None and a.status != 503 and a.status // 100 != 2}
