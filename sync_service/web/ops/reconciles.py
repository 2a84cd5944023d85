"""The runs of the reconcile for operators: the list, the start of a run."""

import msgspec
from msgspec import Struct
from starlette.requests import Request

from sync_service.errors import ClerkUnavailable
from sync_service.operator_errors import NoSecretKey, ReconcileRunning
from sync_service.store.reconciles import RunReport, list_runs
from sync_service.web.body import decode_body, read_body
from sync_service.web.operation import ResponseBody
from sync_service.web.ops.auth import Operator
from sync_service.web.ops.context import ApiRoute, OpsContext, Reply, create_operation
from sync_service.web.ops.parameters import LIMIT, parse_limit, read_parameters


class ReconcileRequest(Struct, forbid_unknown_fields=True):
    """`dry_run` only reports; `recent` compares only the newest changes."""

    dry_run: bool = False
    recent: bool = False


class RunList(Struct):
    """The runs of the reconcile, the newest first."""

    runs: list[RunReport]


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


_reconcile_decoder = msgspec.json.Decoder(ReconcileRequest)

ROUTES = (
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
)
