"""POST /webhooks/clerk: read the body, verify the signature, parse the event, check its instance, apply, respond."""

import asyncio
import time
from functools import cache, lru_cache
from typing import Any, Literal

import msgspec
import structlog
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sync_service.clerk.events import EXAMPLE_INSTANCE, Event, parse_event
from sync_service.clerk.webhook_signature import WebhookVerifier, read_signature
from sync_service.errors import DatabaseError, DatabaseUnavailable
from sync_service.request_errors import (
    BadPayload,
    BadSignature,
    BadTimestamp,
    MissingHeaders,
    RequestError,
    WrongInstance,
)
from sync_service.store.identities import pin_instance
from sync_service.sync.apply import Applier
from sync_service.sync.batch import EventBatcher
from sync_service.sync.outcome import Outcome
from sync_service.web.body import read_body
from sync_service.web.limits import TimeLimits
from sync_service.web.metrics.families import Metrics
from sync_service.web.operation import BODY_ERRORS, Operation, Parameter, ResponseBody
from sync_service.web.problems import client_error, database_error, internal_error

log = structlog.get_logger()

HINTS = {
    "bad_signature": "CLERK_WEBHOOK_SIGNING_SECRET belongs to another endpoint, or a proxy in front changes the body",
    "bad_timestamp": "this server's clock is wrong, or an old request is replayed",
    "missing_headers": "the sender is not Svix, or a proxy in front removes its headers",
    "wrong_instance": "another Clerk instance (development, production) sends to this URL too",
}


class WebhookEvent(Struct):
    """An event as Clerk sends it. Further fields are allowed."""

    type: str
    data: dict[str, Any]


class ProcessedEvent(Struct, omit_defaults=True):
    """The event needs no further attempt."""

    outcome: Literal["applied", "stale", "duplicate", "ignored"]
    reason: str | None = None


class ParkedEvent(Struct, omit_defaults=True):
    """The event is stored, and the service tries it again. `reason` is the class of the error."""

    outcome: Literal["parked"]
    reason: str | None = None


WEBHOOK = Operation(
    method="POST",
    path="/webhooks/clerk",
    summary="Takes an event of Clerk, signed by Svix.",
    responses={
        200: ResponseBody("Committed: applied, superseded, repeated, or of a type that is not handled", ProcessedEvent),
        202: ResponseBody("Stored, but not applicable now. The service retries it", ParkedEvent),
    },
    errors=(
        *(MissingHeaders, BadTimestamp, BadSignature, BadPayload, WrongInstance, DatabaseUnavailable),
        *BODY_ERRORS,
    ),
    parameters=(
        Parameter("svix-id", "The ID of the message", place="header", required=True),
        Parameter("svix-timestamp", "The time of this attempt, in seconds since 1970", place="header", required=True),
        Parameter("svix-signature", "One or more signatures: `v1,` and Base64", place="header", required=True),
    ),
    body=WebhookEvent,
)


class WebhookEndpoint:
    """The endpoint as an ASGI app. It responds to its own errors, so it can run outside Starlette."""

    def __init__(
        self,
        verifier: WebhookVerifier,
        applier: Applier,
        metrics: Metrics,
        limits: TimeLimits,
        instance_id: str | None,
    ) -> None:
        """Accept events of `instance_id` only; None stands for the instance that the database has pinned."""
        self._verifier = verifier
        self._database = applier.store.database
        self._redactions = {mapping.entity: mapping.redacted_fields for mapping in applier.store.mapping.all}
        self._batcher = EventBatcher(
            applier.apply_batch,
            applier.apply_waiting_for_lock,
            timeout=limits.apply,
            on_batch=metrics.batch_size.observe,
        )
        self._count = cache(metrics.webhooks.labels)
        self._observe_seconds = metrics.webhook_seconds.observe
        self._limits = limits
        self._instance_id = instance_id
        self._pinning = asyncio.Lock()
        self._log = log.bind()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one delivery: 2xx only after the commit."""
        began = time.perf_counter()
        request = Request(scope, receive)
        try:
            # Before the body: a caller without these headers must not make the service keep one.
            signature = read_signature(_select_signature_headers(request), now=time.time())
            body = await read_body(request, self._limits.body)
            message_id = self._verifier.verify_body(signature, body)
            event = parse_event(message_id, body, self._redactions)
            if event.replaced:
                self._log.warning("value_replaced", fields=event.replaced)
            outcome = await self._apply(event)
        except RequestError as error:
            self._count(error.code).inc()
            self._log.warning("webhook_refused", code=error.code, hint=HINTS.get(error.code), detail=str(error))
            response = client_error(request, error)
        except DatabaseError as error:  # such as a missing privilege: the event is not stored
            self._count("unavailable").inc()
            response = database_error(request, error)
        except Exception as error:  # noqa: BLE001  any other exception is a 500, so that Svix sends the event again
            self._count("internal_server_error").inc()
            response = internal_error(request, error)
        else:
            self._count(outcome.outcome).inc()
            self._log.info("webhook", type=event.type, outcome=outcome.outcome, reason=outcome.reason)
            response = _create_response(outcome)
        await response(scope, receive, send)
        self._observe_seconds(time.perf_counter() - began)

    async def _apply(self, event: Event) -> Outcome:
        try:
            if event.instance_id is None or event.instance_id == self._instance_id:
                outcome = await self._batcher.submit(event)
            else:
                async with asyncio.timeout(self._limits.apply):
                    await self._check_instance(event.instance_id)
                    outcome = await self._batcher.submit(event)
        except TimeoutError:
            raise DatabaseUnavailable("no response from the database in time") from None
        if outcome.outcome == "unavailable":
            raise DatabaseUnavailable(outcome.reason or "")
        return outcome

    async def _check_instance(self, instance_id: str) -> None:
        if instance_id != EXAMPLE_INSTANCE:
            # The first events of a busy instance arrive together. One of them reads the database for all.
            async with self._pinning:
                if self._instance_id is None:
                    async with self._database.acquire() as connection:
                        self._instance_id = await pin_instance(connection, instance_id)
        if self._instance_id not in {None, instance_id}:
            raise WrongInstance("The event belongs to another Clerk instance than the one that this service accepts.")


def _select_signature_headers(request: Request) -> dict[str, str]:
    # A dict is faster: Starlette's `Headers` scans all headers for each name.
    selected: dict[str, str] = {}
    for name, value in request.scope["headers"]:
        if name.startswith(_PREFIXES):
            key, text = name.decode(), value.decode("latin-1")
            if key in selected and key.endswith("-signature"):  # a sender may repeat the line
                text = f"{selected[key]}, {text}"
            selected[key] = text
    return selected


_PREFIXES = (b"svix-", b"webhook-")


@lru_cache(maxsize=64)
def _create_response(outcome: Outcome) -> Response:
    is_parked = outcome.outcome == "parked"
    body = msgspec.convert(outcome, ParkedEvent if is_parked else ProcessedEvent, from_attributes=True)
    return Response(msgspec.json.encode(body), 202 if is_parked else 200, media_type="application/json")
