"""What a column can be filled with: a field of Clerk's user by its path, or what is computed from it (pure)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sync_service.clerk.values import WITHHELD, User

Data: TypeAlias = Mapping[str, Any]

# A column's value, from the user and from the whole of Clerk's JSON.
Value: TypeAlias = Callable[[User, Data], Any]

WHOLE = "$"

PLACEHOLDER = "{clerk_id}"


def _email(user: User) -> str | None:
    address = user.primary_email_address
    return (address.email_address or None) if address else None


def _email_verified(user: User) -> bool:
    address = user.primary_email_address
    return bool(address and address.verification and address.verification.status == "verified")


def _phone(user: User) -> str | None:
    number = user.primary_phone_number
    return (number.phone_number or None) if number else None


def _full_name(user: User) -> str | None:
    return " ".join(name for name in (user.first_name, user.last_name) if name) or None


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


# `or None`: older events have "" where newer ones have null, and two users without a name are not two users named "".
COMPUTED: Mapping[str, Callable[[User], Any]] = {
    "primary_email": _email,
    "primary_email_verified": _email_verified,
    "primary_phone": _phone,
    "full_name": _full_name,
    "id": lambda user: user.id,
    "username": lambda user: user.username or None,
    "first_name": lambda user: user.first_name or None,
    "last_name": lambda user: user.last_name or None,
    "image_url": lambda user: user.image_url or None,
    "external_id": lambda user: user.external_id or None,
    "banned": lambda user: bool(user.banned),
    "locked": lambda user: bool(user.locked),
    "public_metadata": lambda user: user.public_metadata or {},
    "last_sign_in_at": lambda user: _whole(user.last_sign_in_at),
    "created_at": lambda user: _whole(user.created_at),
    "updated_at": lambda user: _whole(user.updated_at),
}

# What says nothing of the person, and so may stay when a row is made anonymous.
IMPERSONAL = frozenset(
    {
        "id",
        "primary_email_verified",
        "banned",
        "locked",
        "created_at",
        "updated_at",
        "last_sign_in_at",
        "last_active_at",
    }
)


@dataclass(frozen=True, slots=True)
class Column:
    """How one column is filled.

    `source` is a computed value, a path such as `public_metadata.plan` (numbers pick from a list), `$` for the whole
    user, or None for a `constant`. `when_null` stands in for null, with `{clerk_id}` replaced. `also` are keys that
    `$` gets beside Clerk's own, for columns that the table itself generates from them. `optional` columns, those of a
    preset, are passed over where the table has none of that name, and stand in for null only where that is refused.
    """

    source: str | None
    constant: Any = None
    when_null: Any = None
    also: Mapping[str, str] = field(default_factory=dict)
    optional: bool = False

    @property
    def root(self) -> str:
        """The field of Clerk's user that it begins with."""
        return (self.source or "").partition(".")[0]

    @property
    def personal(self) -> bool:
        """Whether it may tell who the user is."""
        return self.source is not None and self.root not in IMPERSONAL

    @property
    def beyond(self) -> bool:
        """Whether it needs more of the user than the fields that are read in any case."""
        return self.source is not None and self.source not in COMPUTED

    def reader(self) -> Value:
        """Return what `value` is, as short as it can be had."""
        compute = COMPUTED.get(self.source or "")
        return self.value if compute is None or self.when_null is not None else lambda user, _: compute(user)

    def value(self, user: User, data: Data) -> Any:
        """Return the value, as JSON has it; `data` is the whole user, where any column is `beyond`."""
        if self.source is None:
            return self.constant
        found = self._found(user, data)
        return filled(self.when_null, user.id) if found is None else found

    def _found(self, user: User, data: Data) -> Any:
        if compute := COMPUTED.get(self.source or ""):
            return compute(user)
        if self.source == WHOLE:
            kept = {name: value for name, value in data.items() if name not in WITHHELD}
            return kept | {key: COMPUTED[source](user) for key, source in self.also.items()}
        found: Any = data
        steps = (self.source or "").split(".")
        for step in steps:
            if isinstance(found, Mapping):
                found = found.get(step)
            elif isinstance(found, list) and step.isdecimal():
                found = found[int(step)] if int(step) < len(found) else None
            else:
                return None
        return None if found == "" and len(steps) == 1 else found


def filled(template: Any, clerk_id: str) -> Any:
    """Return what stands in for null."""
    return template.replace(PLACEHOLDER, clerk_id) if isinstance(template, str) else template
