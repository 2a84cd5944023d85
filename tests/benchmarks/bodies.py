"""Realistic bodies of 2 to 3 kB, signed in advance, as whole HTTP requests."""

import json

from sync_service.clerk.sample_events import build_sample_event
from tests.world import SECRET, sign_event


def make_body(event_type: str, user_id: str, milliseconds: int) -> bytes:
    """Return an event of a user with a linked Google account, which most live users have."""
    event = build_sample_event(event_type, user_id, milliseconds=milliseconds)
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
    return json.dumps(event, separators=(",", ":")).encode()


def make_request(path: str, message_id: str, body: bytes) -> bytes:
    """Return the bytes of one POST, signed now."""
    head = [f"POST {path} HTTP/1.1", "host: bench", "content-type: application/json", f"content-length: {len(body)}"]
    head += [f"{name}: {value}" for name, value in sign_event(body, message_id, secret=SECRET).items()]
    return "\r\n".join([*head, "", ""]).encode() + body
