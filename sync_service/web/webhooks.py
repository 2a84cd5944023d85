"""POST /webhooks/clerk: bytes, signature, value, instance, apply, answer."""

import asyncio
import time
from functools import cache, lru_cache

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sync_service.clerk.events import EXAMPLE_INSTANCE, Event, read_event
from sync_service.clerk.signature import Verifier
from sync_service.errors import BadPayload, BodyTooLarge, Refusal, SlowBody, Unavailable, WrongInstance
from sync_service.postgres.faults import translated
from sync_service.postgres.inbox import pin_instance
from sync_service.sync.apply import Applier
from sync_service.sync.intake import Intake
from sync_service.sync.parking import Outcome
from sync_service.web.metrics import Metrics
from sync_service.web.problems import bug, refused, unavailable

log = structlog.get_logger()

# Svix sends up to 350 kB.
MOST_BYTES = 1024 * 1024

# Together under the 10 s in which an answer always comes.
BODY_SECONDS = 3
APPLY_SECONDS = 6

HINTS = {
    "bad_signature": "CLERK_WEBHOOK_SIGNING_SECRET is another endpoint's, or a proxy in front rewrites the body",
    "bad_timestamp": "this server's clock is wrong, or an old request is being replayed",
    "missing_headers": "not sent by Svix, or a proxy in front drops its headers",
    "wrong_instance": "another Clerk instance (development, production) has this address too",
}


class ClerkWebhook:
    """The endpoint, with what it needs: an ASGI app that answers its errors too."""

    def __init__(self, verifier: Verifier, applier: Applier, metrics: Metrics, instance_id: str | None) -> None:
        """Take events of `instance_id` only; with None, of the instance that the database has pinned."""
        self._verifier = verifier
        self._pool = applier.pool
        self._withheld = applier.statements.mapping.withheld
        self._intake = Intake(applier.apply_quickly, applier.apply_patiently, seconds=APPLY_SECONDS)
        self._count = cache(metrics.webhooks.labels)
        self._last_webhook = metrics.last_webhook
        self._instance_id = instance_id
        self._log = log.bind()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one delivery: 2xx only for what is committed."""
        request = Request(scope, receive)
        try:
            body = await read_body(request)
            message_id = self._verifier.verify(_signature_headers(request), body, now=time.time())
            event = read_event(message_id, body, self._withheld)
            outcome = await self._store(event)
        except Refusal as refusal:
            self._count(refusal.code).inc()
            self._log.warning("webhook refused", code=refusal.code, hint=HINTS.get(refusal.code), detail=str(refusal))
            response = refused(request, refusal)
        except Unavailable as error:
            self._count("unavailable").inc()
            response = unavailable(request, error)
        except Exception as error:  # noqa: BLE001  what nobody foresaw: 500, so that Svix keeps the event
            self._count("internal_server_error").inc()
            response = bug(request, error)
        else:
            self._count(outcome.outcome).inc()
            self._last_webhook.set_to_current_time()
            self._log.info("webhook", type=event.type, outcome=outcome.outcome, reason=outcome.reason)
            response = _answer(outcome)
        await response(scope, receive, send)

    async def _store(self, event: Event) -> Outcome:
        try:
            if event.instance_id is None or event.instance_id == self._instance_id:
                outcome = await self._intake.submit(event)
            else:
                async with asyncio.timeout(APPLY_SECONDS):
                    await self._check_instance(event.instance_id)
                    outcome = await self._intake.submit(event)
        except TimeoutError:
            raise Unavailable("no answer from the database in time") from None
        if outcome.outcome == "unavailable":
            raise Unavailable(outcome.reason or "")
        if outcome.outcome == "unstorable":
            raise BadPayload("The event holds text or numbers that PostgreSQL cannot store.")
        return outcome

    async def _check_instance(self, instance_id: str) -> None:
        if self._instance_id is None and instance_id != EXAMPLE_INSTANCE:
            with translated():
                self._instance_id = await pin_instance(self._pool, instance_id)
        if self._instance_id not in {None, instance_id}:
            raise WrongInstance("This service takes the events of one Clerk instance, and this is of another.")


async def read_body(request: Request) -> bytes:
    """Return the body's bytes. Raises `BodyTooLarge` before it has read more than is allowed, or `SlowBody`."""
    # By a dict, since Starlette's `Headers` goes through all of them for each name.
    declared = dict(request.scope["headers"]).get(b"content-length", b"")
    if declared.isdigit() and int(declared) > MOST_BYTES:
        raise BodyTooLarge("The body exceeds 1 MiB.")
    chunks: list[bytes] = []
    size = 0
    more = True
    task = asyncio.current_task()
    assert task  # noqa: S101  this is a coroutine
    # By hand: `asyncio.timeout` costs four times as much, and this is for every webhook.
    timer = asyncio.get_running_loop().call_later(BODY_SECONDS, task.cancel, _SLOW)
    try:
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise SlowBody("The caller left before the body had arrived.")
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > MOST_BYTES:
                raise BodyTooLarge("The body exceeds 1 MiB.")
            more = message.get("more_body", False)
    except asyncio.CancelledError as cancelled:
        if cancelled.args != (_SLOW,) or task.uncancel():  # somebody else wants it to end
            raise
        raise SlowBody(f"The body did not arrive within {BODY_SECONDS} s.") from None
    finally:
        timer.cancel()
    return b"".join(chunks)


_SLOW = "the body is slow"


def _signature_headers(request: Request) -> dict[str, str]:
    # By a dict, since Starlette's `Headers` goes through all of them for each name.
    wanted = (b"svix-", b"webhook-")
    return {
        name.decode(): value.decode("latin-1") for name, value in request.scope["headers"] if name.startswith(wanted)
    }


@lru_cache(maxsize=64)
def _answer(outcome: Outcome) -> Response:
    body = {"outcome": outcome.outcome} | ({"reason": outcome.reason} if outcome.reason else {})
    status = 202 if outcome.outcome == "parked" else 200
    return Response(msgspec.json.encode(body), status, media_type="application/json")
