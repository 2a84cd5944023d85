"""Replays of events, of one or of all that a filter selects."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.requests import Request

from sync_service.errors import DatabaseUnavailable
from sync_service.operator_errors import UnknownEvent
from sync_service.request_errors import BadRequest
from sync_service.store.event_filter import Filter
from sync_service.sync.preview import Preview, preview_event
from sync_service.sync.replay import replay_all, replay_event
from sync_service.web.body import decode_body, read_body
from sync_service.web.operation import Parameter, ResponseBody
from sync_service.web.ops.auth import Operator
from sync_service.web.ops.context import ApiRoute, OpsContext, Reply, create_operation
from sync_service.web.ops.events import EVENT_ID, find_event, parse_event_id
from sync_service.web.ops.parameters import build_filter, parse_dry_run, read_parameters


class ReplayResult(Struct):
    """The outcome of a webhook: applied, stale, duplicate, ignored, or parked with its reason."""

    outcome: str
    reason: str | None


class EmptyBody(Struct, forbid_unknown_fields=True):
    """A body without any field. It may be absent."""


class BulkReplayRequest(Struct, forbid_unknown_fields=True):
    """A filter; null is no filter, and at least one must be given."""

    status: str | None = None
    type: str | None = None
    clerk_id: str | None = None
    reason: str | None = None
    since: Annotated[datetime, Meta(tz=True)] | None = None
    until: Annotated[datetime, Meta(tz=True)] | None = None
    dry_run: bool = False


class BulkReplayResult(Struct):
    """The number of events by outcome. If the time was over, the next request goes on with `since=continue_since`."""

    dry_run: bool
    outcomes: dict[str, int]
    continue_since: datetime | UnsetType = UNSET


async def replay(ops: OpsContext, request: Request, operator: Operator) -> Reply:
    """Apply one event again, or return the change that this would make."""
    dry_run = parse_dry_run(request.query_params)
    if body := await read_body(request, ops.limits.body):
        decode_body(_empty_decoder, body)
    event = await find_event(ops, parse_event_id(request))
    if dry_run:
        preview, _ = await preview_event(ops.replayer, event)
        raise_if_unavailable(preview.outcome, preview.reason)
        return Reply(preview)
    outcome = await replay_event(ops.replayer, event, operator.who)
    raise_if_unavailable(outcome.outcome, outcome.reason)
    # The status is that of a webhook.
    return Reply(ReplayResult(outcome.outcome, outcome.reason), 202 if outcome.outcome == "parked" else 200)


async def replay_many(ops: OpsContext, request: Request, operator: Operator) -> Reply:
    """Apply all events again that a filter selects, or count the outcomes of that."""
    read_parameters(request.query_params, ())
    body = decode_body(_bulk_decoder, await read_body(request, ops.limits.body))
    selection = build_filter(
        status=body.status,
        type=body.type,
        clerk_id=body.clerk_id,
        reason=body.reason,
        since=body.since,
        until=body.until,
    )
    if selection == Filter():
        raise BadRequest("Name a filter, such as status: without one, all events would be replayed.")
    found = await replay_all(
        ops.replayer, selection, who=operator.who, dry_run=body.dry_run, max_seconds=ops.limits.bulk_replay
    )
    return Reply(BulkReplayResult(body.dry_run, found.outcomes, found.continue_since or UNSET))


def raise_if_unavailable(outcome: str, reason: str | None) -> None:
    """Raise `DatabaseUnavailable` for an event that is as it was, because the database or a lock was not available."""
    if outcome == "unavailable":
        raise DatabaseUnavailable(reason or "")


_empty_decoder = msgspec.json.Decoder(EmptyBody)
_bulk_decoder = msgspec.json.Decoder(BulkReplayRequest)

ROUTES = (
    ApiRoute(
        create_operation(
            "POST",
            "/ops/events/{id:path}/replay",
            {
                200: ResponseBody("The outcome, or the change that the replay would make", ReplayResult | Preview),
                202: ResponseBody("Stored, but not applicable now", ReplayResult),
            },
            (UnknownEvent,),
            summary="Replays one event.",
            parameters=(EVENT_ID, Parameter("dry_run", "`true` returns a preview", Literal["true", "false"])),
            body=EmptyBody,
            body_required=False,
        ),
        replay,
    ),
    ApiRoute(
        create_operation(
            "POST",
            "/ops/replay",
            {200: ResponseBody("The number of events by outcome", BulkReplayResult)},
            summary="Replays all events that a filter selects.",
            body=BulkReplayRequest,
        ),
        replay_many,
        takes_long=True,
    ),
)
