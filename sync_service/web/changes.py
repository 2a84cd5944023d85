"""GET /changes: the change feed for the app's backend, with a long poll."""

import asyncio
import re
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from sync_service.errors import DatabaseError
from sync_service.request_errors import BadRequest, BadToken, NotRecorded, TooManyWaiting
from sync_service.store.access import Store
from sync_service.store.feed import START, FeedEntry, FeedPosition, has_entries, parse_position, read_entries
from sync_service.sync.change_signal import ChangeSignal, wait_for
from sync_service.web.auth import Authenticator
from sync_service.web.limits import TimeLimits, response_deadline
from sync_service.web.operation import Operation, Parameter, ResponseBody
from sync_service.web.ops.parameters import LIMIT, MAX_LIMIT, parse_limit, read_parameters
from sync_service.web.rows import Key, encode_row

# Routers of platforms end a request after 30 s.
MAX_WAIT = 25

# Waiting requests of this process. Each has an open connection to the caller, and none to the database.
MAX_WAITING = 100

# Seconds between two looks at the database while a request waits. Other processes and machines commit, too.
POLL = 2.0
# An entry is committed, and an older writer is still open. The pause doubles up to `POLL`: a deletion may take minutes.
SHORT_POLL = 0.02


class Change(Struct):
    """One committed change. `key` is null if the key of the row is not known."""

    cursor: str
    id: str
    type: str
    clerk_id: str
    key: Key | None
    columns: list[str]
    at: datetime


class ChangePage(Struct):
    """Changes, the oldest first. `next` is the cursor of the next request."""

    changes: list[Change]
    next: str


CHANGES = Operation(
    method="GET",
    path="/changes",
    summary="Returns committed changes of the users table, the oldest first. 404 if none are recorded.",
    responses={200: ResponseBody("The changes after the cursor", ChangePage)},
    errors=(BadRequest, BadToken, NotRecorded, TooManyWaiting, DatabaseError),
    security=("serviceToken",),
    parameters=(
        Parameter("after", "The `next` of an earlier response; without it, the oldest change is the first"),
        LIMIT,
        Parameter(
            "wait",
            "The time to wait for a change if there is none, such as 20s",
            Annotated[str, Meta(pattern="^([0-9]|1[0-9]|2[0-5])s$")],
        ),
    ),
)


class ChangesEndpoint:
    """The endpoint and its dependencies."""

    def __init__(self, authenticator: Authenticator, store: Store, signal: ChangeSignal, limits: TimeLimits) -> None:
        self._authenticator = authenticator
        self._store = store
        self._signal = signal
        self._limits = limits
        self._waiting = 0

    async def endpoint(self, request: Request) -> Response:
        """Return the changes after the cursor; with `wait`, wait for one."""
        if not self._store.mapping.records_changes:
            raise NotRecorded
        self._authenticator.require_service_token(request)
        given = read_parameters(request.query_params, ("after", "limit", "wait"))
        after = _parse_cursor(given.get("after"))
        limit = parse_limit(given.get("limit", str(MAX_LIMIT)))
        seconds = _parse_wait(given.get("wait"))
        if seconds and self._waiting >= MAX_WAITING:
            raise TooManyWaiting
        self._waiting += bool(seconds)
        try:
            entries = await self._read(request, after, limit, seconds)
        finally:
            self._waiting -= bool(seconds)
        page = ChangePage([_encode(entry) for entry in entries], str(entries[-1].position if entries else after))
        return Response(msgspec.json.encode(page), media_type="application/json", headers={"Cache-Control": "no-store"})

    async def _read(self, request: Request, after: FeedPosition, limit: int, seconds: float) -> list[FeedEntry]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        pause = SHORT_POLL
        while True:
            commit = self._signal.next
            async with response_deadline(self._limits.response), self._store.database.acquire() as connection:
                is_near = await has_entries(connection, after)
                entries = await read_entries(connection, after, limit) if is_near else []
            left = deadline - loop.time()
            if entries or left <= 0 or await request.is_disconnected():
                return entries
            if is_near:
                await asyncio.sleep(min(pause, left))
                pause = min(pause * 2, POLL)
            else:
                pause = SHORT_POLL
                await wait_for(commit, min(POLL, left))


def _parse_cursor(text: str | None) -> FeedPosition:
    try:
        return parse_position(text) if text else START
    except ValueError:
        raise BadRequest("after is not the next of an earlier response.") from None


def _parse_wait(text: str | None) -> float:
    if text is None:
        return 0.0
    if re.fullmatch(r"[0-9]{1,2}s", text) and int(text[:-1]) <= MAX_WAIT:
        return float(text[:-1])
    raise BadRequest(f"wait is a number of seconds from 0s to {MAX_WAIT}s.")


def _encode(entry: FeedEntry) -> Change:
    key = encode_row(entry.key) if entry.key is not None else None
    cursor = str(entry.position)
    return Change(cursor, f"chg_{cursor}", entry.type, entry.clerk_id, key, entry.columns, entry.at)
