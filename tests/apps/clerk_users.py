"""Clerk's side of a user's life: bodies of events, and the values that Clerk shows."""

from typing import Any

from tests.world import PII_SENTINEL, T0, make_email, make_event

# A hidden app may have a column for any of them; Clerk sends them in every event.
EVERY_EVENT: dict[str, Any] = {
    "banned": False,
    "locked": False,
    "external_id": None,
    "last_sign_in_at": T0,
    "last_active_at": T0,
    "phone_numbers": [],
    "primary_phone_number_id": None,
    "public_metadata": {},
    "private_metadata": {},
    "unsafe_metadata": {},
    "has_image": True,
}
NO_NAMES = {"first_name": None, "last_name": None}


def build_event(kind: str, clerk_id: str, at: int, **data: Any) -> dict[str, Any]:
    """Return an event of a user with all fields that Clerk sends."""
    if kind == "user.deleted":
        return make_event(kind, clerk_id, at)
    image = {"image_url": f"https://img.example/{clerk_id}/{at}.png", "username": clerk_id.lower()[-12:]}
    return make_event(kind, clerk_id, at, **EVERY_EVENT | image | data)


def build_phone(number: int) -> dict[str, Any]:
    """Return the fields of a user with a phone only, without names."""
    phone: dict[str, Any] = {
        "id": f"idn_phone{number}",
        "object": "phone_number",
        "phone_number": f"+1555555{number:04}",
    }
    phone |= {"verification": {"status": "verified", "strategy": "phone_code"}}
    fields = {"phone_numbers": [phone], "primary_phone_number_id": phone["id"], "username": None, "image_url": None}
    return NO_NAMES | fields


def build_address(address: str) -> dict[str, Any]:
    """Return the fields of a user with this address, verified."""
    email = make_email("") | {"id": f"idn_{abs(hash(address))}", "email_address": address}
    return {"email_addresses": [email], "primary_email_address_id": email["id"]}


def read_source(source: str, data: dict[str, Any]) -> Any:
    """Return the value that Clerk shows for a source named in expect.json."""
    if source == "primary_email":
        wanted = data["primary_email_address_id"]
        return next((mail["email_address"] for mail in data["email_addresses"] if mail["id"] == wanted), None)
    if source == "full_name":
        return " ".join(filter(None, (data["first_name"], data["last_name"]))) or None
    return data[source]


def format_address(local: str) -> str:
    """Return the address of `make_email_fields`."""
    return f"{local}.{PII_SENTINEL}@example.com"
