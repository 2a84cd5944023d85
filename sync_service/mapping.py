"""From Clerk's user to a row of the app's table (pure): which table, which columns, which values.

Whatever no mapping names belongs to the app and is never written.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from sync_service.clerk.values import User

Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TableMapping:
    """One table. `columns` says how each column but `clerk_id` is had from a user, as JSON.

    `key` is the app's own primary key, where that is another column than `clerk_id`.
    `email` is the column with the address that no two users share, if there is one. `email_conflict` is what is done
    when two claim it: with `release` the older claim shows null until the address is free, with `park` the event waits.
    """

    schema: str
    table: str
    clerk_id: str
    columns: Mapping[str, Callable[[User], Any]]
    key: str | None = None
    email: str | None = None
    email_conflict: Literal["release", "park"] = "release"

    def row(self, user: User) -> Row:
        """Return the row's mapped columns as values of JSON; PostgreSQL casts them to each column's type."""
        return {self.clerk_id: user.id} | {column: value(user) for column, value in self.columns.items()}


def _email(user: User) -> str | None:
    address = user.primary_email_address
    return (address.email_address or None) if address else None


def _email_verified(user: User) -> bool:
    address = user.primary_email_address
    return bool(address and address.verification and address.verification.status == "verified")


def _phone(user: User) -> str | None:
    number = user.primary_phone_number
    return (number.phone_number or None) if number else None


def _time(milliseconds: float | None) -> str | None:
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC).isoformat()


# `or None`: older events have "" where newer ones have null, and two users without a name are not two users named "".
DEFAULT = TableMapping(
    schema="public",
    table="users",
    clerk_id="id",
    email="email",
    columns={
        "email": _email,
        "email_verified": _email_verified,
        "phone": _phone,
        "username": lambda user: user.username or None,
        "first_name": lambda user: user.first_name or None,
        "last_name": lambda user: user.last_name or None,
        "image_url": lambda user: user.image_url or None,
        "external_id": lambda user: user.external_id or None,
        "banned": lambda user: bool(user.banned),
        "locked": lambda user: bool(user.locked),
        "public_metadata": lambda user: user.public_metadata or {},
        "last_sign_in_at": lambda user: _time(user.last_sign_in_at),
        "created_at": lambda user: _time(user.created_at),
        "updated_at": lambda user: _time(user.updated_at),
    },
)
