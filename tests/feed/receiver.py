"""The app's endpoint for notifications: it verifies each signature, and answers as a test wants."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import standardwebhooks
import svix.webhooks
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.world import run_app, wait_until

NOTIFY_SECRET = "whsec_bm90aWZ5L1NFQ1JFVC9vZi90aGUvYXBw"
OLDER_NOTIFY_SECRET = "whsec_b2xkZXIvbm90aWZ5L1NFQ1JFVC9hcHBhcHA="

Answer = Callable[[dict[str, Any]], Awaitable[Response]]


async def accept(_: dict[str, Any]) -> Response:
    return Response(status_code=204)


@dataclass
class Receiver:
    """The requests that have come, in order; `answer` makes the response to one."""

    url: str = ""
    answer: Answer = accept
    secrets: tuple[str, ...] = (NOTIFY_SECRET,)
    received: list[dict[str, Any]] = field(default_factory=list)
    accepted: list[dict[str, Any]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    async def endpoint(self, request: Request) -> Response:
        body = await request.body()
        headers = dict(request.headers)
        for secret in self.secrets:
            assert standardwebhooks.Webhook(secret).verify(body, headers) == json.loads(body)
            svix.webhooks.Webhook(secret).verify(body, headers)
        message = json.loads(body)
        assert headers["webhook-id"] == message["id"]
        self.ids.append(message["id"])
        self.received.append(message)
        response = await self.answer(message)
        if response.status_code < 300:
            self.accepted.append(message)
        return response

    async def wait_for(self, count: int) -> list[dict[str, Any]]:
        """Return the accepted changes as soon as there are so many."""
        await wait_until(lambda: len(self.accepted) >= count)
        return self.accepted

    async def never_answer(self) -> Response:
        await self.stopped.wait()
        return Response()

    @property
    def settings(self) -> dict[str, Any]:
        return {"sync_notify_url": self.url, "sync_notify_secret": (NOTIFY_SECRET,)}


@contextlib.asynccontextmanager
async def run_receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = Starlette(routes=[Route("/hook", receiver.endpoint, methods=["POST"])])
    async with run_app(app) as url:
        receiver.url = f"{url}/hook"
        try:
            yield receiver
        finally:
            receiver.stopped.set()
