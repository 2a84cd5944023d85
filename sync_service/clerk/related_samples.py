"""Sample sessions, organizations and memberships in Clerk's format (pure).

Each of them belongs to one user, whose ID gives it its own ID. So the samples of one user fit together.
"""

from typing import Any

from sync_service.clerk.samples import build_sample_user, derive_creation_time

DAY = 86_400_000


def build_sample_session(user_id: str, *, status: str, milliseconds: int, number: int = 0) -> dict[str, Any]:
    """Return the session of a user, with the user, as updated at `milliseconds` since 1970."""
    local = user_id.removeprefix("user_")
    created_at = min(derive_creation_time(user_id), milliseconds)
    return {
        "abandon_at": milliseconds + 30 * DAY,
        "actor": None,
        "client_id": f"client_{local}",
        "created_at": created_at,
        "expire_at": milliseconds + 7 * DAY,
        "id": f"sess_{local}",
        "last_active_at": milliseconds,
        "last_active_organization_id": None,
        "latest_activity": {
            "browser_name": "Firefox",
            "browser_version": "140.0",
            "city": "Berlin",
            "country": "DE",
            "device_type": "desktop",
            "id": f"sess_activity_{local}",
            "ip_address": "192.0.2.1",
            "is_mobile": False,
            "object": "session_activity",
        },
        "object": "session",
        "status": status,
        "updated_at": milliseconds,
        "user": build_sample_user(user_id, milliseconds=milliseconds, number=number, created_at=created_at),
        "user_id": user_id,
    }


def build_sample_organization(user_id: str, *, milliseconds: int) -> dict[str, Any]:
    """Return the organization that a user has created, as updated at `milliseconds`."""
    local = user_id.removeprefix("user_")
    return {
        "admin_delete_enabled": True,
        "created_at": min(derive_creation_time(user_id), milliseconds),
        "created_by": user_id,
        "has_image": False,
        "id": f"org_{local}",
        "image_url": f"https://img.example.com/org_{local}",
        "max_allowed_memberships": 5,
        "name": f"Organization {local}",
        "object": "organization",
        "private_metadata": {},
        "public_metadata": {},
        "slug": f"organization-{local.lower()}",
        "updated_at": milliseconds,
    }


def build_sample_membership(user_id: str, *, milliseconds: int, number: int = 0) -> dict[str, Any]:
    """Return the membership of a user in this organization, as updated at `milliseconds`."""
    local = user_id.removeprefix("user_")
    organization = build_sample_organization(user_id, milliseconds=milliseconds)
    user = build_sample_user(user_id, milliseconds=milliseconds, number=number)
    shown = {name: user[name] for name in ("first_name", "has_image", "image_url", "last_name", "username")}
    return {
        "created_at": organization["created_at"],
        "id": f"orgmem_{local}",
        "object": "organization_membership",
        "organization": organization,
        "permissions": ["org:sys_memberships:manage", "org:sys_profile:manage"],
        "private_metadata": {},
        "public_metadata": {},
        "public_user_data": {
            "identifier": f"{local}@example.com",
            "profile_image_url": user["image_url"],
            "user_id": user_id,
            **shown,
        },
        "role": "org:admin",
        "role_name": "Admin",
        "updated_at": milliseconds,
    }
