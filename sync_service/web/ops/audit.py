"""The actions of operators."""

from msgspec import Struct
from starlette.requests import Request

from sync_service.store.audit import AuditLine, list_entries
from sync_service.web.operation import ResponseBody
from sync_service.web.ops.auth import Operator
from sync_service.web.ops.context import ApiRoute, OpsContext, Reply, create_operation
from sync_service.web.ops.parameters import LIMIT, parse_limit, read_parameters


class AuditList(Struct):
    """The actions of operators, the newest first."""

    audit: list[AuditLine]


async def list_audit(ops: OpsContext, request: Request, operator: Operator) -> Reply:
    """Return the last actions of operators."""
    given = read_parameters(request.query_params, ("limit",))
    async with ops.store.database.acquire() as connection:
        return Reply(AuditList(await list_entries(connection, parse_limit(given.get("limit")))))


ROUTES = (
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
)
