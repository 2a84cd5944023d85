"""Deliveries of changes to the app, for operators: the list, replays."""

from typing import Literal

from msgspec import Struct
from starlette.requests import Request

from sync_service.operator_errors import UnknownChange
from sync_service.request_errors import BadRequest
from sync_service.store.audit import AuditEntry, add_entry
from sync_service.store.deliveries import DELIVERY_STATUSES, Delivery, list_deliveries, replay_delivery
from sync_service.store.feed import FeedPosition, parse_position
from sync_service.web.operation import Parameter, ResponseBody
from sync_service.web.ops.auth import Operator
from sync_service.web.ops.context import ApiRoute, OpsContext, Reply, create_operation
from sync_service.web.ops.parameters import LIMIT, parse_limit, read_parameters


class ChangeList(Struct):
    """Deliveries to the app, the newest first."""

    changes: list[Delivery]
    next_cursor: str | None


class ReplayedChange(Struct):
    """The delivery waits for its next attempt."""

    outcome: str


async def list_changes(ops: OpsContext, request: Request, operator: Operator) -> Reply:
    """Return deliveries to the app; without a status those that have failed."""
    given = read_parameters(request.query_params, ("status", "limit", "cursor"))
    status, limit = given.get("status"), parse_limit(given.get("limit"))
    if status not in {None, *DELIVERY_STATUSES}:
        raise BadRequest(f"status is one of {', '.join(DELIVERY_STATUSES)}.")
    before = parse_change_id(given["cursor"], BadRequest) if "cursor" in given else None
    async with ops.store.database.acquire() as connection:
        found = await list_deliveries(connection, status, limit, before)
    return Reply(ChangeList(found, found[-1].id if len(found) == limit else None))


async def replay_change(ops: OpsContext, request: Request, operator: Operator) -> Reply:
    """Make one delivery due again, with all its attempts."""
    read_parameters(request.query_params, ())
    change_id = request.path_params["id"]
    position = parse_change_id(change_id, UnknownChange)
    async with ops.store.database.acquire() as connection, connection.transaction():
        if not await replay_delivery(connection, position):
            raise UnknownChange(_UNKNOWN_CHANGE)
        await add_entry(connection, AuditEntry(operator.who, "replay_delivery", change_id))
    return Reply(ReplayedChange("pending"))


def parse_change_id(text: str, error: type[BadRequest | UnknownChange]) -> FeedPosition:
    """Return the position of a change. Raises `error` for a text that is not the ID of one."""
    try:
        return parse_position(text.removeprefix("chg_"))
    except ValueError:
        raise error(_UNKNOWN_CHANGE) from None


_UNKNOWN_CHANGE = "There is no delivery with this ID. GET /ops/changes lists them."

ROUTES = (
    ApiRoute(
        create_operation(
            "GET",
            "/ops/changes",
            {200: ResponseBody("The deliveries", ChangeList)},
            summary="Lists deliveries to the app, without a status those that have failed.",
            parameters=(
                Parameter("status", "Only deliveries with this status", Literal["pending", "delivered", "dead"]),
                LIMIT,
                Parameter("cursor", "The next_cursor of an earlier response"),
            ),
        ),
        list_changes,
    ),
    ApiRoute(
        create_operation(
            "POST",
            "/ops/changes/{id}/replay",
            {200: ResponseBody("The delivery is due again", ReplayedChange)},
            (UnknownChange,),
            summary="Sends one delivery again.",
            parameters=(Parameter("id", "The ID of the change", place="path"),),
        ),
        replay_change,
    ),
)
