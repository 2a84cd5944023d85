"""The state of the service in figures."""

from datetime import datetime

from msgspec import Struct
from starlette.requests import Request

from sync_service.postgres.pool import Connection
from sync_service.store.deliveries import count_failed_deliveries
from sync_service.store.reconciles import RunReport, list_runs
from sync_service.store.summary import read_summary
from sync_service.web.operation import ResponseBody
from sync_service.web.ops.auth import Operator
from sync_service.web.ops.context import ApiRoute, OpsContext, Reply, create_operation
from sync_service.web.ops.parameters import read_parameters


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


ROUTES = (
    ApiRoute(
        create_operation(
            "GET", "/ops/summary", {200: ResponseBody("The figures", Summary)}, summary="Returns the state in figures."
        ),
        show_summary,
    ),
)
