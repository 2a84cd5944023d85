"""GET /healthz: the process runs. GET /readyz: the database, its schema and the mapping are usable."""

import asyncio

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from sync_service.errors import DatabaseUnavailable, MappingMismatch, SyncError
from sync_service.postgres.errors import translate_errors
from sync_service.postgres.migrate import SchemaState, read_schema_state
from sync_service.postgres.pool import READ_ONLY, Connection, is_read_only
from sync_service.store.access import Store

log = structlog.get_logger()

READY_TIMEOUT = 4


async def healthz(request: Request) -> Response:
    """Return 200 as long as the process runs."""
    return Response(msgspec.json.encode({"status": "ok"}), media_type="application/json")


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
            reason = None if state.is_ready else "schema"
        except MappingMismatch:
            reason = "mapping"
        except SyncError:
            reason = "database"
        if reason is None:
            return Response(msgspec.json.encode({"status": "ready"}), media_type="application/json")
        body = msgspec.json.encode({"status": "not ready", "reason": reason})
        return Response(body, 503, {"Retry-After": "5"}, "application/json")
