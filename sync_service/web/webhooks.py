"""POST /webhooks/clerk: bytes, signature, value, instance, apply, answer."""

import asyncio
import time

import msgspec
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from sync_service.clerk.events import EXAMPLE_INSTANCE, Event, read_event
from sync_service.clerk.signature import Verifier
from sync_service.errors import BadPayload, BodyTooLarge, Refusal, SlowBody, Unavailable, WrongInstance
from sync_service.postgres.faults import translated
from sync_service.postgres.inbox import pin_instance
from sync_service.sync.apply import Applier, Outcome
from sync_service.sync.intake import Intake
from sync_service.web.metrics import Metrics

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
    """The endpoint, with what it needs."""

    def __init__(self, verifier: Verifier, applier: Applier, metrics: Metrics, instance_id: str | None) -> None:
        """Take events of `instance_id` only; with None, of the instance that the database has pinned."""
        self._verifier = verifier
        self._pool = applier.pool
        self._withheld = applier.statements.mapping.withheld
        self._intake = Intake(applier.apply_quickly, applier.apply_patiently, seconds=APPLY_SECONDS)
        self._metrics = metrics
        self._instance_id = instance_id

    async def answer(self, request: Request) -> Response:
        """Answer one delivery: 2xx only for what is committed."""
        try:
            body = await read_body(request)
            message_id = self._verifier.verify(_signature_headers(request), body, now=time.time())
            event = read_event(message_id, body, self._withheld)
            outcome = await self._store(event)
        except Refusal as refusal:
            self._metrics.webhooks.labels(refusal.code).inc()
            log.warning("webhook refused", code=refusal.code, hint=HINTS.get(refusal.code), detail=str(refusal))
            raise
        except Unavailable:
            self._metrics.webhooks.labels("unavailable").inc()
            raise
        self._metrics.webhooks.labels(outcome.outcome).inc()
        self._metrics.last_webhook.set_to_current_time()
        log.info("webhook", type=event.type, outcome=outcome.outcome, reason=outcome.reason)
        return _answer(outcome)

    async def _store(self, event: Event) -> Outcome:
        try:
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

    async def _check_instance(self, instance_id: str | None) -> None:
        if instance_id is None or instance_id == self._instance_id:
            return
        if self._instance_id is None and instance_id != EXAMPLE_INSTANCE:
            with translated():
                self._instance_id = await pin_instance(self._pool, instance_id)
        if self._instance_id not in {None, instance_id}:
            raise WrongInstance("This service takes the events of one Clerk instance, and this is of another.")


async def read_body(request: Request) -> bytes:
    """Return the body's bytes. Raises `BodyTooLarge` before it has read more than is allowed, or `SlowBody`."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > MOST_BYTES:
        raise BodyTooLarge("The body exceeds 1 MiB.")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise BodyTooLarge("The body exceeds 1 MiB.")
    except TimeoutError:
        raise SlowBody(f"The body did not arrive within {BODY_SECONDS} s.") from None
    except ClientDisconnect:
        raise SlowBody("The caller left before the body had arrived.") from None
    return bytes(body)


def _signature_headers(request: Request) -> dict[str, str]:
    # By a dict, since Starlette's `Headers` goes through all of them for each name.
    wanted = (b"svix-", b"webhook-")
    return {
        name.decode(): value.decode("latin-1") for name, value in request.scope["headers"] if name.startswith(wanted)
    }


def _answer(outcome: Outcome) -> Response:
    body = {"outcome": outcome.outcome} | ({"reason": outcome.reason} if outcome.reason else {})
    status = 202 if outcome.outcome == "parked" else 200
    return Response(msgspec.json.encode(body), status, media_type="application/json")
