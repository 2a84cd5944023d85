"""Look up the Clerk instance of a key: the `kid` of each key in Clerk's key sets is the instance's ID, `ins_…`.

https://clerk.com/docs/reference/backend-api/tag/jwks
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SECONDS = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """`instances` are the IDs in the key set. Without a response, `status` is None and `fault` is the reason."""

    instances: frozenset[str] = frozenset()
    status: int | None = None
    fault: str = ""


async def instance_of_key(api_url: str, key: str) -> Answer:
    """Return the instance of a secret key."""
    return await _fetch_instances(f"{api_url.removesuffix('/v1')}/v1/jwks", {"authorization": f"Bearer {key}"})


async def instance_of_host(jwks_url: str) -> Answer:
    """Return the instance of a key set, which signs the instance's session tokens."""
    return await _fetch_instances(jwks_url, {})


async def known_users(api_url: str, key: str, ids: Sequence[str]) -> frozenset[str] | None:
    """Return the users that the instance of a key has, out of up to 100 `ids`; None if Clerk does not list them."""
    parameters = {"user_id": list(ids), "limit": len(ids)}
    result = await _get_json(f"{api_url.removesuffix('/v1')}/v1/users", {"authorization": f"Bearer {key}"}, parameters)
    if isinstance(result, Answer):
        return None
    _, users = result
    if not isinstance(users, list):
        return None
    return frozenset(user["id"] for user in users if isinstance(user, dict) and "id" in user)


async def _fetch_instances(url: str, headers: dict[str, str]) -> Answer:
    result = await _get_json(url, headers, {})
    if isinstance(result, Answer):
        return result
    status, body = result
    keys = body.get("keys") if isinstance(body, dict) else None
    kids = {key.get("kid") for key in keys or [] if isinstance(key, dict)}
    return Answer(frozenset(kid for kid in kids if isinstance(kid, str) and kid.startswith("ins_")), status)


async def _get_json(url: str, headers: dict[str, str], parameters: dict[str, Any]) -> tuple[int, Any] | Answer:
    """Return the status and the decoded body of a successful response, else an `Answer` without instances."""
    import httpx2  # noqa: PLC0415  the import takes 0.25 s, which other commands should not wait for

    try:
        async with httpx2.AsyncClient(timeout=SECONDS, headers=headers) as client:
            response = await client.get(url, params=parameters)
            if not response.is_success:
                return Answer(status=response.status_code)
            return response.status_code, response.json()
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        return Answer(fault=type(error).__name__)
