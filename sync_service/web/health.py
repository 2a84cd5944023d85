"""GET /healthz: the process lives. GET /readyz: the database answers, and its schema is the one that is needed."""

import asyncio

import asyncpg
import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from sync_service.errors import SyncError, Unavailable, Unfit
from sync_service.postgres.faults import translated
from sync_service.postgres.schema import SchemaState, schema_state
from sync_service.postgres.statements import Statements

log = structlog.get_logger()

READY_SECONDS = 4


async def healthz(request: Request) -> Response:
    """Answer 200 while the process lives."""
    return Response(msgspec.json.encode({"status": "ok"}), media_type="application/json")


class Readiness:
    """Asks the database anew each time: nothing that was true a second ago is taken for true."""

    def __init__(self, pool: asyncpg.Pool, statements: Statements) -> None:
        self._pool = pool
        self._statements = statements

    async def state(self) -> SchemaState:
        """Return how the schema stands. Raises `Unfit` for the mapping, `SyncError` when nothing can be asked."""
        try:
            with translated():
                async with asyncio.timeout(READY_SECONDS), self._pool.acquire() as connection:
                    state = await schema_state(connection)
                    if state.ready:
                        await self._statements.held_against(connection)
                    return state
        except TimeoutError:
            raise Unavailable("no answer from the database in time") from None

    async def tell(self) -> None:
        """Say in the log, once at the start, what keeps the service from being ready."""
        try:
            state = await self.state()
        except Unfit as error:
            log.warning("not ready", why="the mapping does not fit the table", faults=error.faults)
            return
        except SyncError as error:
            log.warning("not ready", why="the database does not answer; it is asked again", reason=str(error))
            return
        if state.ready:
            log.info("ready", schema=state.version)
        else:
            log.error("not ready", why=str(state))

    async def answer(self, request: Request) -> Response:
        """Answer 200, or 503 with `database`, `schema` or `mapping` as the reason."""
        try:
            state = await self.state()
            why = None if state.ready else "schema"
        except Unfit:
            why = "mapping"
        except SyncError:
            why = "database"
        if why is None:
            return Response(msgspec.json.encode({"status": "ready"}), media_type="application/json")
        body = msgspec.json.encode({"status": "not ready", "reason": why})
        return Response(body, 503, {"Retry-After": "5"}, "application/json")
