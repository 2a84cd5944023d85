"""Single requests of the doctor: the instance of a key, and users that the instance has."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
import msgspec

from sync_service.clerk.backend_api import build_api_url, build_auth_headers
from sync_service.clerk.json_repair import parse_tolerantly
from sync_service.clerk.key_set import read_instances
from sync_service.clerk.limited_client import LimitedClient
from sync_service.clerk.resource import UNREADABLE_JSON

# Seconds.
LOOKUP_TIMEOUT = 5


@dataclass(frozen=True, slots=True)
class InstanceLookup:
    """The instances that a key set names. `status` is None without a response; `error` then names its class."""

    instances: frozenset[str] = frozenset()
    status: int | None = None
    error: str = ""


async def look_up_key_instance(base_url: str, secret_key: str) -> InstanceLookup:
    """Return the instance of a secret key, for the doctor."""
    return await _look_up_instance(build_api_url(base_url, "/jwks"), build_auth_headers(secret_key))


async def look_up_host_instance(jwks_url: str) -> InstanceLookup:
    """Return the instance whose session tokens the keys at this URL sign, for the doctor."""
    return await _look_up_instance(jwks_url, {})


async def find_known_users(base_url: str, secret_key: str, clerk_ids: Sequence[str]) -> frozenset[str] | None:
    """Return those of up to 100 users that the key's instance has; None if Clerk does not respond."""
    parameters = {"user_id": list(clerk_ids), "limit": len(clerk_ids)}
    url = build_api_url(base_url, "/users")
    response = await _get_once(url, build_auth_headers(secret_key), parameters)
    if isinstance(response, InstanceLookup):
        return None
    try:
        users, _ = parse_tolerantly(_users.decode, response.content)
        return frozenset(user.id for user in users)
    except UNREADABLE_JSON:
        return None


async def _look_up_instance(url: str, headers: dict[str, str]) -> InstanceLookup:
    response = await _get_once(url, headers, {})
    if isinstance(response, InstanceLookup):
        return response
    return InstanceLookup(read_instances(response.content), response.status_code)


async def _get_once(url: str, headers: dict[str, str], parameters: dict[str, Any]) -> httpx2.Response | InstanceLookup:
    """Return a successful response, or a lookup without instances that has its status or its error."""
    try:
        async with (
            asyncio.timeout(LOOKUP_TIMEOUT),  # httpx2 has a limit for each part of a response only
            LimitedClient(timeout=LOOKUP_TIMEOUT, headers=headers) as client,
        ):
            response = await client.get(url, params=parameters)
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
        return InstanceLookup(error=type(error).__name__)
    return response if response.is_success else InstanceLookup(status=response.status_code)


class _Identified(msgspec.Struct):
    id: str


_users = msgspec.json.Decoder(list[_Identified])
