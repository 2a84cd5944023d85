"""Events for operators: the list, one event."""

from datetime import datetime
from typing import Literal

from msgspec import Struct
from starlette.requests import Request

from sync_service.clerk.events import Event
from sync_service.clerk.resource import ClerkId
from sync_service.operator_errors import UnknownEvent
from sync_service.store.event_filter import STATUSES
from sync_service.store.events import EventDetail, EventSummary, get_event, get_events, list_events
from sync_service.web.operation import Parameter, ResponseBody
from sync_service.web.ops.auth import Operator
from sync_service.web.ops.context import ApiRoute, OpsContext, Reply, create_operation, is_clerk_id
from sync_service.web.ops.parameters import LIMIT, parse_cursor, parse_filter, parse_limit, read_parameters

LIST_PARAMETERS = ("status", "type", "clerk_id", "reason", "since", "until", "limit", "cursor")

EVENT_ID = Parameter("id", "The ID of the message at Svix", ClerkId, place="path")

_NO_EVENT = "The inbox has no event with this ID."


class EventList(Struct):
    """One page; `next_cursor` is null on the last one."""

    events: list[EventSummary]
    next_cursor: str | None


async def list_page(ops: OpsContext, request: Request, operator: Operator) -> Reply:
    """Return one page of the events that the filter selects, the newest first."""
    given = read_parameters(request.query_params, LIST_PARAMETERS)
    selection, limit = parse_filter(given), parse_limit(given.get("limit"))
    after = parse_cursor(given.get("cursor"))
    async with ops.store.database.acquire() as connection:
        events = await list_events(connection, selection, limit + 1, after)
    cursor = events[limit - 1].position.encode() if len(events) > limit else None
    return Reply(EventList(events[:limit], cursor))


async def show(ops: OpsContext, request: Request, operator: Operator) -> Reply:
    """Return one event with its failures and payload."""
    read_parameters(request.query_params, ())
    async with ops.store.database.acquire() as connection:
        event = await get_event(connection, parse_event_id(request))
    if event is None:
        raise UnknownEvent(_NO_EVENT)
    return Reply(event)


async def find_event(ops: OpsContext, message_id: str) -> Event:
    """Return the stored event. Raises `UnknownEvent` or `DatabaseError`."""
    async with ops.store.database.acquire() as connection:
        events = await get_events(connection, [message_id])
    if not events:
        raise UnknownEvent(_NO_EVENT)
    return events[0]


def parse_event_id(request: Request) -> str:
    """Return the ID in the path. Raises `UnknownEvent` for a text that is not the ID of one."""
    message_id: str = request.path_params["id"]
    if not is_clerk_id(message_id):
        raise UnknownEvent(_NO_EVENT)
    return message_id


ROUTES = (
    ApiRoute(
        create_operation(
            "GET",
            "/ops/events",
            {200: ResponseBody("One page, without payloads", EventList)},
            summary="Lists events, the newest first.",
            parameters=(
                Parameter("status", "Only events with this status", Literal["", *STATUSES]),
                Parameter("type", "Only events of this type"),
                Parameter("clerk_id", "Only events of this user"),
                Parameter("reason", "Only events with this reason"),
                Parameter("since", "Only events received at this time or later", datetime),
                Parameter("until", "Only events received before this time", datetime),
                LIMIT,
                Parameter("cursor", "The `next_cursor` of the page before"),
            ),
        ),
        list_page,
    ),
    ApiRoute(
        create_operation(
            "GET",
            "/ops/events/{id:path}",
            {200: ResponseBody("The event with its failures and its payload", EventDetail)},
            (UnknownEvent,),
            summary="Returns one event.",
            parameters=(EVENT_ID,),
        ),
        show,
    ),
)
