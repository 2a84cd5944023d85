"""Realistic IDs and bodies of 2 to 3 kB, signed in advance, as whole HTTP requests."""

import json
import os
import string
from typing import Any

from sync_service.clerk.sample_events import build_sample_event
from tests.world import SECRET, sign_event

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_KSUID_EPOCH = 1_400_000_000


def make_id(prefix: str, milliseconds: int) -> str:
    """Return an ID of that time in the form of Clerk's and Svix's IDs.

    It is a KSUID: the seconds come first, so new entries of an index are neighbours.
    """
    seconds, rest = divmod(milliseconds, 1000)
    number = int.from_bytes((seconds - _KSUID_EPOCH).to_bytes(4) + bytes([rest // 4]) + os.urandom(15))
    digits = []
    for _ in range(27):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return prefix + "".join(reversed(digits))


def make_email(user_id: str) -> str:
    """Return the email of a user. Unlike IDs, emails are in no order of time."""
    return f"{user_id[:4:-1]}@example.com"


def make_body(event_type: str, user_id: str, milliseconds: int) -> bytes:
    """Return an event of a user with a linked Google account, which most live users have."""
    event = build_sample_event(event_type, user_id, milliseconds=milliseconds)
    if event_type == "user.deleted":
        return _encode(event)
    event["data"]["email_addresses"][0]["email_address"] = make_email(user_id)
    event["data"]["external_accounts"] = [
        {
            "approved_scopes": "email openid https://example.com/auth/userinfo.email https://example.com/auth/profile",
            "avatar_url": "https://img.example.com/avatar",
            "created_at": milliseconds,
            "email_address": "somebody@example.com",
            "external_account_id": "eac_2aBcDeFgHiJkLmNoPqRsTuVwXyZ",
            "family_name": "Example",
            "first_name": "Ada",
            "given_name": "Ada",
            "google_id": "100000000000000000001",
            "id": "idn_2aBcDeFgHiJkLmNoPqRsTuVwXyZ",
            "identification_id": "idn_2aBcDeFgHiJkLmNoPqRsTuVwXyZ",
            "label": None,
            "last_name": "Example",
            "object": "google_account",
            "provider": "oauth_google",
            "provider_user_id": "100000000000000000001",
            "public_metadata": {},
            "updated_at": milliseconds,
            "username": None,
            "verification": {"status": "verified", "strategy": "oauth_google", "object": "verification_oauth"},
        }
    ]
    return _encode(event)


def _encode(event: dict[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()


def make_request(path: str, message_id: str, body: bytes) -> bytes:
    """Return the bytes of one POST, signed now."""
    head = [f"POST {path} HTTP/1.1", "host: bench", "content-type: application/json", f"content-length: {len(body)}"]
    head += [f"{name}: {value}" for name, value in sign_event(body, message_id, secret=SECRET).items()]
    return "\r\n".join([*head, "", ""]).encode() + body
