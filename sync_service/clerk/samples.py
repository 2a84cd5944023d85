"""Sample users in Clerk's format, for the `send` command, experiments and tests (pure)."""

import zlib
from typing import Any

NAMES = ("Ada", "Grace", "Edsger", "Barbara", "Alan", "Katherine")


def build_sample_user(
    user_id: str, *, milliseconds: int, number: int = 0, created_at: int | None = None
) -> dict[str, Any]:
    """Return a user with one verified email, in the format of Clerk's Backend API, as updated at `milliseconds`."""
    created_at = milliseconds if created_at is None else created_at
    local = user_id.removeprefix("user_")
    email_id = f"idn_{local}"
    return {
        "backup_code_enabled": False,
        "banned": False,
        "create_organization_enabled": True,
        "created_at": created_at,
        "delete_self_enabled": True,
        "email_addresses": [
            {
                "created_at": created_at,
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


def derive_creation_time(user_id: str) -> int:
    """Return a time in 2025, in milliseconds. It is always the same for one user, so an update does not change it."""
    seconds_of_the_year = zlib.crc32(user_id.encode()) % (365 * 86_400)
    return (1_735_689_600 + seconds_of_the_year) * 1000
