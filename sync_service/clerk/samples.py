"""Sample events in Clerk's format, for the `send` command, experiments and tests (pure)."""

from typing import Any

NAMES = ("Ada", "Grace", "Edsger", "Barbara", "Alan", "Katherine")


def build_sample_event(event_type: str, user_id: str, *, milliseconds: int, number: int = 0) -> dict[str, Any]:
    """Return the body of an event of `event_type` about `user_id`, as it happened at `milliseconds` since 1970.

    `number` selects the first name. The event has no `instance_id`, like older events of Clerk, so an experiment never
    pins an instance.
    """
    data: dict[str, Any] = {"id": user_id, "object": event_type.partition(".")[0]}
    if event_type in {"user.created", "user.updated"}:
        data = build_sample_user(user_id, milliseconds=milliseconds, number=number)
    elif event_type.endswith(".deleted"):
        data["deleted"] = True
    return {
        "data": data,
        "event_attributes": {"http_request": {"client_ip": "192.0.2.1", "user_agent": "sync-service"}},
        "object": "event",
        "timestamp": milliseconds,
        "type": event_type,
    }


def build_sample_user(user_id: str, *, milliseconds: int, number: int = 0) -> dict[str, Any]:
    """Return a user with one verified email, in the format of Clerk's Backend API."""
    local = user_id.removeprefix("user_")
    email_id = f"idn_{local}"
    return {
        "backup_code_enabled": False,
        "banned": False,
        "create_organization_enabled": True,
        "created_at": milliseconds,
        "delete_self_enabled": True,
        "email_addresses": [
            {
                "created_at": milliseconds,
                "email_address": f"{local}@example.com",
                "id": email_id,
                "linked_to": [],
                "matches_sso_connection": False,
                "object": "email_address",
                "reserved": False,
                "updated_at": milliseconds,
                "verification": {
                    "attempts": 1,
                    "expire_at": milliseconds + 600_000,
                    "object": "verification_otp",
                    "status": "verified",
                    "strategy": "email_code",
                },
            }
        ],
        "enterprise_accounts": [],
        "external_accounts": [],
        "external_id": None,
        "first_name": NAMES[number % len(NAMES)],
        "has_image": False,
        "id": user_id,
        "image_url": f"https://img.example.com/{local}",
        "last_active_at": milliseconds,
        "last_name": "Example",
        "last_sign_in_at": None,
        "legal_accepted_at": None,
        "locked": False,
        "lockout_expires_in_seconds": None,
        "mfa_disabled_at": None,
        "mfa_enabled_at": None,
        "object": "user",
        "passkeys": [],
        "password_enabled": True,
        "phone_numbers": [],
        "primary_email_address_id": email_id,
        "primary_phone_number_id": None,
        "primary_web3_wallet_id": None,
        "private_metadata": {},
        "public_metadata": {},
        "saml_accounts": [],
        "totp_enabled": False,
        "two_factor_enabled": False,
        "unsafe_metadata": {},
        "updated_at": milliseconds,
        "username": None,
        "verification_attempts_remaining": 100,
        "web3_wallets": [],
    }
