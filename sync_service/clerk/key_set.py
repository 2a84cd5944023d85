"""The JSON of a key set (JWKS) → the public keys of session tokens, and their instances (pure).

https://clerk.com/docs/guides/sessions/manual-jwt-verification
"""

from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import RSAAlgorithm

from sync_service.clerk.resource import UNREADABLE_JSON

MIN_KEY_BITS = 2048


def parse_key_set(key_set: Any) -> dict[str, RSAPublicKey]:
    """Return the RSA keys for signatures, by key ID. Raises `ValueError` if it is not a key set or has no such key."""
    if not isinstance(key_set, dict) or not isinstance(key_set.get("keys"), list):
        raise ValueError("no key set")  # noqa: TRY004  the response is wrong, not the argument's type
    keys = {}
    for entry in key_set["keys"]:
        key = _parse_key(entry) if _is_signing_key(entry) else None
        if key is not None:
            keys[entry["kid"]] = key
    if not keys:
        raise ValueError("no key")
    return keys


def _is_signing_key(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("kid"), str)
        and entry.get("kty") == "RSA"
        and entry.get("use", "sig") == "sig"
        and entry.get("alg", "RS256") == "RS256"
    )


def _parse_key(entry: dict[str, Any]) -> RSAPublicKey | None:
    """Return the public key; None if it is unreadable, private or too short."""
    try:
        key = RSAAlgorithm.from_jwk(entry)
    except (jwt.InvalidKeyError, TypeError, ValueError):  # a number in place of a text is a `TypeError`
        return None
    return key if isinstance(key, RSAPublicKey) and key.key_size >= MIN_KEY_BITS else None


class _Key(msgspec.Struct):
    kid: str = ""


class _KeySet(msgspec.Struct):
    keys: list[_Key]


_key_set = msgspec.json.Decoder(_KeySet)


def read_instances(body: bytes) -> frozenset[str]:
    """Return the instances in a key set: Clerk's `kid` is the instance's ID. Empty for an unreadable key set."""
    try:
        kids = {key.kid for key in _key_set.decode(body).keys}
    except UNREADABLE_JSON:
        return frozenset()
    return frozenset(kid for kid in kids if kid.startswith("ins_"))
