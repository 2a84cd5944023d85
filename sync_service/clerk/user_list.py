"""Lists of Clerk's users, page by page.

https://clerk.com/docs/reference/backend-api/tag/users/get/users
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import structlog
from msgspec import Raw, Struct

from sync_service.clerk.change import Snapshot, Version
from sync_service.clerk.client import ClerkClient, QueryParameters
from sync_service.clerk.json_repair import has_nul, is_deep, parse_tolerantly, repair_json
from sync_service.clerk.list_requests import GIVE_UP_AFTER, ListRequests
from sync_service.clerk.rate_limit import RateLimiter
from sync_service.clerk.resource import UNREADABLE_JSON, ClerkId, Milliseconds, Resource
from sync_service.clerk.user import User, decode_user
from sync_service.errors import ClerkUnavailable

log = structlog.get_logger()

# The IDs that a list by ID can name. A sign in front of one would exclude its user.
LISTABLE_ID = re.compile(r"\w[\w-]{0,254}", re.ASCII)

# Clerk's limits of a page and of the IDs in one request.
PAGE_SIZE = 500
MAX_IDS = 100


class Listed(Struct, frozen=True):
    """The facts about an object that a walk needs. `snapshot` is None if the object cannot be read."""

    clerk_id: str
    created_at: int
    snapshot: Snapshot | None


class UserList:
    """Reads lists of users through a client."""

    def __init__(
        self,
        client: ClerkClient,
        limiter: RateLimiter,
        *,
        needs_raw_json: bool = True,
        give_up_after: float = GIVE_UP_AFTER,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Give up on an unreachable Clerk after so many seconds.

        Without `needs_raw_json` the snapshots have no `data`, and a page is decoded in a quarter of the time.
        """
        self.requests = ListRequests(client, limiter, give_up_after=give_up_after, clock=clock, sleep=sleep)
        self._decode = decode_users if needs_raw_json else decode_page

    async def get_page(self, parameters: QueryParameters) -> list[Listed]:
        """Return the users of one page.

        Raises `ClerkRequestRefused` for refused parameters, `ClerkAuthError`, or `ClerkUnavailable` in the end.
        """

        async def request() -> list[Listed]:
            return self._decode(await self.requests.client.list_users(parameters))

        return await self.requests.repeat(request)

    async def find_users(self, clerk_ids: Sequence[str], control: str | None) -> list[Listed]:
        """Return those of at most `MAX_IDS` - 1 users that Clerk knows. `control` is one that it must know, if any.

        Raises `ClerkUnavailable` if the response is not about exactly these users, because it then proves no deletion.
        """
        wanted = {*clerk_ids, *([control] if control else [])}
        page = await self.get_page({"user_id": sorted(wanted), "limit": len(wanted)})
        known = {user.clerk_id for user in page}
        if not known <= wanted or (control and control not in known):
            raise ClerkUnavailable("the list by ID does not name the requested users")
        return [user for user in page if user.clerk_id != control]

    async def get_instances(self) -> frozenset[str]:
        """Return the instances that the key set of the key names."""
        return await self.requests.repeat(self.requests.client.get_instances)

    async def count(self) -> int | None:
        """Return the number of users, or None if the response has none. Raises `ClerkUnavailable`."""
        return await self.requests.repeat(self.requests.client.count_users)


class _Identified(Struct):
    id: ClerkId
    created_at: Milliseconds = 0


_page_decoder = msgspec.json.Decoder(list[User])
_list_decoder = msgspec.json.Decoder(list[Raw])
_identity_decoder = msgspec.json.Decoder(_Identified)


def decode_users(content: bytes) -> list[Listed]:
    """Return the users of a page. One unreadable user affects no other one.

    Raises `ClerkUnavailable` for another document, or for a truncated one.
    """
    try:
        return [decode_listed(bytes(user), decode_user) for user in _split_list(content)]
    except UNREADABLE_JSON:
        raise ClerkUnavailable("unreadable_list") from None


def _split_list(content: bytes) -> list[Raw]:
    try:
        return _list_decoder.decode(content)
    except UNREADABLE_JSON:
        # The decoder refuses the list because of one user with a lone surrogate, or with a value that is nested deeply.
        repaired, fields = repair_json(content)
        users = _list_decoder.decode(repaired)
    log.warning("value_replaced", fields=fields)
    return users


def decode_page(content: bytes) -> list[Listed]:
    """Do the same as `decode_users` for snapshots without `data`: decode a page at once if all its users are readable.

    Raises `ClerkUnavailable`.
    """
    try:
        users = [] if has_nul(content) else _page_decoder.decode(content)
    except UNREADABLE_JSON:
        users = []
    if not users or any(map(_has_deep_metadata, users)):
        return decode_users(content)
    return [Listed(user.id, int(user.created_at or 0), Snapshot(user, Version.from_api(user))) for user in users]


def _has_deep_metadata(user: User) -> bool:
    # No other value of `User` is nested without a limit.
    return bool(user.public_metadata) and is_deep(msgspec.json.encode(user.public_metadata))


def decode_listed(content: bytes, decode: Callable[[bytes], tuple[Resource, dict[str, Any]]]) -> Listed:
    """Return one object of a list; `decode` reads it. Raises one of `UNREADABLE_JSON` if it has no ID."""
    try:
        (resource, data), replaced = parse_tolerantly(decode, content)
    except UNREADABLE_JSON:
        identified, _ = parse_tolerantly(_identity_decoder.decode, content)
        return Listed(identified.id, int(identified.created_at), None)
    if replaced:
        log.warning("value_replaced", fields=replaced)
    return Listed(resource.id, int(resource.created_at or 0), Snapshot(resource, Version.from_api(resource), data))
