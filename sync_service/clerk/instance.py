"""Which instance of Clerk a key belongs to, as Clerk tells: its key sets name the instance, `kid` is `ins_…`.

https://clerk.com/docs/reference/backend-api/tag/jwks
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SECONDS = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """`instances` are named by the key set. `status` is Clerk's, None where nobody answered: then `fault` says why."""

    instances: frozenset[str] = frozenset()
    status: int | None = None
    fault: str = ""


async def instance_of_key(api_url: str, key: str) -> Answer:
    """Return the instance of a secret key."""
    return await _key_set(f"{api_url.removesuffix('/v1')}/v1/jwks", {"authorization": f"Bearer {key}"})


async def instance_of_host(jwks_url: str) -> Answer:
    """Return the instance whose session tokens these keys sign."""
    return await _key_set(jwks_url, {})


async def known_users(api_url: str, key: str, ids: Sequence[str]) -> frozenset[str] | None:
    """Return which of up to 100 users the instance of a key has; None where Clerk does not say."""
    parameters = {"user_id": list(ids), "limit": len(ids)}
    answered = await _get(f"{api_url.removesuffix('/v1')}/v1/users", {"authorization": f"Bearer {key}"}, parameters)
    if isinstance(answered, Answer) or not isinstance(answered[1], list):
        return None
    return frozenset(user["id"] for user in answered[1] if isinstance(user, dict) and "id" in user)


async def _key_set(url: str, headers: dict[str, str]) -> Answer:
    answered = await _get(url, headers, {})
    if isinstance(answered, Answer):
        return answered
    status, body = answered
    keys = body.get("keys") if isinstance(body, dict) else None
    named = {key.get("kid") for key in keys or [] if isinstance(key, dict)}
    return Answer(frozenset(kid for kid in named if isinstance(kid, str) and kid.startswith("ins_")), status)


async def _get(url: str, headers: dict[str, str], parameters: dict[str, Any]) -> tuple[int, Any] | Answer:
    import httpx2  # noqa: PLC0415  a quarter of a second that no other command should pay

    try:
        async with httpx2.AsyncClient(timeout=SECONDS, headers=headers) as client:
            answer = await client.get(url, params=parameters)
            return (answer.status_code, answer.json()) if answer.is_success else Answer(status=answer.status_code)
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        return Answer(fault=type(error).__name__)
