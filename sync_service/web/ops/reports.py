"""Reports for operators: the summary, the reconcile, the audit, the deliveries to the app."""

from datetime import datetime
from typing import Literal

import msgspec
from msgspec import Struct
from starlette.requests import Request

from sync_service.errors import BadRequest, ClerkUnavailable
from sync_service.operator_errors import NoSecretKey, ReconcileRunning, UnknownChange
from sync_service.postgres.pool import Connection
from sync_service.store.audit import AuditEntry, AuditLine, add_entry, list_entries
from sync_service.store.deliveries import (
    DELIVERY_STATUSES,
    Delivery,
    count_failed_deliveries,
    list_deliveries,
    replay_delivery,
)
from sync_service.store.feed import FeedPosition, parse_position
from sync_service.store.reconciles import RunReport, list_runs
from sync_service.store.summary import read_summary
from sync_service.web.body import decode_body, read_body
from sync_service.web.operation import Parameter, ResponseBody
from sync_service.web.ops.auth import Operator
from sync_service.web.ops.context import ApiRoute, OpsContext, Reply, create_operation
from sync_service.web.ops.parameters import LIMIT, parse_limit, read_parameters


class Summary(Struct):
    """The state of the service. `backlog` counts failed events, and `lag_seconds` is the age of the oldest one."""

    events: dict[str, int]
    backlog: int
    oldest_waiting_at: datetime | None
    lag_seconds: float
    last_event_at: datetime | None
    missed_webhooks: int
    last_reconcile: RunReport | None
    failed_deliveries: int


class ReconcileRequest(Struct, forbid_unknown_fields=True):
    """`dry_run` only reports; `recent` compares only the newest changes."""

    dry_run: bool = False
    recent: bool = False


class RunList(Struct):
    """The runs of the reconcile, the newest first."""

    runs: list[RunReport]


class AuditList(Struct):
    """The actions of operators, the newest first."""

    audit: list[AuditLine]


class ChangeList(Struct):
    """Deliveries to the app, the newest first."""

    changes: list[Delivery]
    next_cursor: str | None


class ReplayedChange(Struct):
    """The delivery waits for its next attempt."""

    outcome: str


async def show_summary(ops: OpsContext, request: Request, operator: Operator) -> Reply:
    """Return the state of the service in figures."""
    read_parameters(request.query_params, ())
    async with ops.store.database.acquire() as connection:
        return Reply(await build_summary(connection))


async def build_summary(connection: Connection) -> Summary:
    """Return the summary. Raises the errors of asyncpg."""
    inbox = await read_summary(connection)
    runs = await list_runs(connection, 1)
    return Summary(
        events=inbox.events,
        backlog=inbox.backlog,
        oldest_waiting_at=inbox.oldest_waiting_at,
        lag_seconds=inbox.lag_seconds,
        last_event_at=inbox.last_event_at,
        missed_webhooks=inbox.missed_webhooks,
        last_reconcile=runs[0] if runs else None,
        failed_deliveries=await count_failed_deliveries(connection),
    )


async def start_reconcile(ops: OpsContext, request: Request, operator: Operator) -> Reply:
    """Start a run; it continues in the background."""
    read_parameters(request.query_params, ())
    body = await read_body(request, ops.limits.body)
    wanted = decode_body(_reconcile_decoder, body) if body else ReconcileRequest()
    return Reply(await start_run(ops, operator, wanted), 202)


async def start_run(ops: OpsContext, operator: Operator, wanted: ReconcileRequest) -> RunReport:
    """Start a run, and return its report so far. Raises `NoSecretKey`, `ReconcileRunning` or `DatabaseError`."""
    if ops.reconciles is None:
        raise NoSecretKey("The service has no key for Clerk's API. Set CLERK_SECRET_KEY.")
    run_id = await ops.reconciles.start(operator.who, recent=wanted.recent, dry_run=wanted.dry_run)
    async with ops.store.database.acquire() as connection:
        [run] = await list_runs(connection, 1, run_id)
    return run


async def list_reconciles(ops: OpsContext, request: Request, operator: Operator) -> Reply:
    """Return the newest runs with their reports."""
    given = read_parameters(request.query_params, ("limit",))
    async with ops.store.database.acquire() as connection:
        return Reply(RunList(await list_runs(connection, parse_limit(given.get("limit")))))


async def list_audit(ops: OpsContext, request: Request, operator: Operator) -> Reply:
    """Return the last actions of operators."""
    given = read_parameters(request.query_params, ("limit",))
    async with ops.store.database.acquire() as connection:
        return Reply(AuditList(await list_entries(connection, parse_limit(given.get("limit")))))


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


_reconcile_decoder = msgspec.json.Decoder(ReconcileRequest)

ROUTES = (
    ApiRoute(
        create_operation(
            "GET", "/ops/summary", {200: ResponseBody("The figures", Summary)}, summary="Returns the state in figures."
        ),
        show_summary,
    ),
    ApiRoute(
        create_operation(
            "POST",
            "/ops/reconcile",
            {202: ResponseBody("The run, which continues in the background", RunReport)},
            (ReconcileRunning, ClerkUnavailable),
            summary="Starts a run of the reconcile.",
            body=ReconcileRequest,
            body_required=False,
        ),
        start_reconcile,
    ),
    ApiRoute(
        create_operation(
            "GET",
            "/ops/reconcile",
            {200: ResponseBody("The runs with their reports", RunList)},
            summary="Lists the runs of the reconcile, the newest first.",
            parameters=(LIMIT,),
        ),
        list_reconciles,
    ),
    ApiRoute(
        create_operation(
            "GET",
            "/ops/audit",
            {200: ResponseBody("The actions", AuditList)},
            summary="Lists the actions of operators, the newest first.",
            parameters=(LIMIT,),
        ),
        list_audit,
    ),
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
