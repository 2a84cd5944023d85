"""GET /healthz: the process runs. GET /readyz: the database, its schema and the mapping are usable."""

import asyncio

import asyncpg
import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from sync_service.errors import SyncError, Unfit
from sync_service.postgres.faults import translated
from sync_service.postgres.schema import SchemaState, schema_state
from sync_service.postgres.statements import Statements

log = structlog.get_logger()

READY_TIMEOUT = 4


async def healthz(request: Request) -> Response:
    """Return 200 as long as the process runs."""
    return Response(msgspec.json.encode({"status": "ok"}), media_type="application/json")


class Readiness:
    """Queries the database on every call; no result is cached."""

    def __init__(self, pool: asyncpg.Pool, statements: Statements) -> None:
        self._pool = pool
        self._statements = statements

    async def check(self) -> SchemaState:
        """Return the state of the schema.

        Raises `Unfit` if the mapping does not fit the table, another `SyncError` if the database is unavailable.
        """
        with translated():
            async with asyncio.timeout(READY_TIMEOUT), self._pool.acquire() as connection:
                state = await schema_state(connection)
                if state.ready:
                    await self._statements.held_against(connection)
                return state

    async def log_state(self) -> None:
        """Log, once at the start, that the service is ready or why it is not."""
        try:
            state = await self.check()
        except Unfit as error:
            log.warning("not_ready", reason="mapping", errors=error.faults)
            return
        except SyncError as error:
            hint = "the service connects by itself once the database is available"
            log.warning("not_ready", reason="database", error=str(error), hint=hint)
            return
        if state.ready:
            log.info("ready", schema=state.version)
        else:
            log.error("not_ready", reason="schema", detail=str(state))

    async def endpoint(self, request: Request) -> Response:
        """Return 200, or 503 with `database`, `schema` or `mapping` as the reason (GET /readyz)."""
        try:
            state = await self.check()
            reason = None if state.ready else "schema"
        except Unfit:
            reason = "mapping"
        except SyncError:
            reason = "database"
        if reason is None:
            return Response(msgspec.json.encode({"status": "ready"}), media_type="application/json")
        body = msgspec.json.encode({"status": "not ready", "reason": reason})
        return Response(body, 503, {"Retry-After": "5"}, "application/json")
