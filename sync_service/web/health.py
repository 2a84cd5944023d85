"""GET /healthz: the process runs. GET /readyz: the database, its schema and the mapping are usable."""

import asyncio
from typing import Literal

import msgspec
import structlog
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from sync_service.errors import DatabaseUnavailable, MappingMismatch, SyncError
from sync_service.postgres.errors import translate_errors
from sync_service.postgres.migrate import SchemaState, read_schema_state
from sync_service.postgres.pool import READ_ONLY, Connection, is_read_only
from sync_service.store.access import Store
from sync_service.web.operation import Operation, ResponseBody

log = structlog.get_logger()

READY_TIMEOUT = 4


_Reason = Literal["database", "schema", "mapping"]


class Liveness(Struct):
    """The process lives."""

    status: Literal["ok"] = "ok"


class Ready(Struct):
    """The service can apply events."""

    status: Literal["ready"] = "ready"


class NotReady(Struct):
    """The service cannot apply events. Senders keep them."""

    reason: _Reason
    status: Literal["not ready"] = "not ready"


HEALTHZ = Operation(
    method="GET",
    path="/healthz",
    summary="Tells that the process lives. It does not ask the database.",
    responses={200: ResponseBody("The process lives", Liveness)},
)

READYZ = Operation(
    method="GET",
    path="/readyz",
    summary="Tells whether the database, its schema and the mapping are usable. It asks the database each time.",
    responses={
        200: ResponseBody("The service is ready", Ready),
        503: ResponseBody("The service is not ready", NotReady),
    },
)


async def healthz(request: Request) -> Response:
    """Return 200 as long as the process runs."""
    return Response(msgspec.json.encode(Liveness()), media_type="application/json")


class Readiness:
    """Queries the database on every call; no result is cached."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def check(self) -> SchemaState:
        """Return the state of the schema.

        Raises `MappingMismatch` if the mapping does not fit the table, another `SyncError` if the database is absent or
        read-only. In the last case all connections are replaced, perhaps by connections to a new primary.
        """
        with translate_errors():
            async with asyncio.timeout(READY_TIMEOUT), self._store.database.acquire() as connection:
                state = await self.read_schema(connection)
                if state.is_ready:
                    await self._store.binding.ensure_bound(connection)
                return state

    async def read_schema(self, connection: Connection) -> SchemaState:
        """Return the state of the schema. Raises `DatabaseUnavailable` if the database is read-only."""
        if await is_read_only(connection):
            await self._store.database.expire_connections()
            raise DatabaseUnavailable(READ_ONLY)
        return await read_schema_state(connection)

    async def log_state(self) -> None:
        """Log, once at the start, that the service is ready or why it is not."""
        try:
            state = await self.check()
        except MappingMismatch as error:
            log.warning("not_ready", reason="mapping", errors=error.errors)
            return
        except SyncError as error:
            hint = "the service connects by itself once the database is available"
            log.warning("not_ready", reason="database", error=str(error), hint=hint)
            return
        if state.is_ready:
            log.info("ready", schema=state.version)
        else:
            log.error("not_ready", reason="schema", detail=str(state))

    async def endpoint(self, request: Request) -> Response:
        """Return 200, or 503 with `database`, `schema` or `mapping` as the reason (GET /readyz)."""
        try:
            state = await self.check()
            reason: _Reason | None = None if state.is_ready else "schema"
        except MappingMismatch:
            reason = "mapping"
        except SyncError:
            reason = "database"
        if reason is None:
            return Response(msgspec.json.encode(Ready()), media_type="application/json")
        body = msgspec.json.encode(NotReady(reason))
        return Response(body, 503, {"Retry-After": "5"}, "application/json")
