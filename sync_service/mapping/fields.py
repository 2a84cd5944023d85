"""Sources of column values: a field of Clerk's user by its path, or a value computed from the user (pure)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sync_service.clerk.user import REDACTED_FIELDS, User

Data: TypeAlias = Mapping[str, Any]

# Returns a column's value from the user and from Clerk's whole JSON of the user.
Value: TypeAlias = Callable[[User, Data], Any]

WHOLE_USER = "$"

# The source with rules of its own: uniqueness, release, linking (mapping/email_policy.py).
PRIMARY_EMAIL = "primary_email"

PLACEHOLDER = "{clerk_id}"


def _get_email(user: User) -> str | None:
    email = user.primary_email_address
    return (email.email_address or None) if email else None


def _is_email_verified(user: User) -> bool:
    email = user.primary_email_address
    return bool(email and email.verification and email.verification.status == "verified")


def _get_phone(user: User) -> str | None:
    phone = user.primary_phone_number
    return (phone.phone_number or None) if phone else None


def _join_names(user: User) -> str | None:
    return " ".join(name for name in (user.first_name, user.last_name) if name) or None


def _to_int(number: float | None) -> int | None:
    return None if number is None else int(number)


# `or None`: older events have "" instead of null. A unique column accepts null for several users, but "" only for one.
COMPUTED: Mapping[str, Callable[[User], Any]] = {
    "primary_email": _get_email,
    "primary_email_verified": _is_email_verified,
    "primary_phone": _get_phone,
    "full_name": _join_names,
    "id": lambda user: user.id,
    "username": lambda user: user.username or None,
    "first_name": lambda user: user.first_name or None,
    "last_name": lambda user: user.last_name or None,
    "image_url": lambda user: user.image_url or None,
    "external_id": lambda user: user.external_id or None,
    "banned": lambda user: bool(user.banned),
    "locked": lambda user: bool(user.locked),
    "public_metadata": lambda user: user.public_metadata or {},
    "last_sign_in_at": lambda user: _to_int(user.last_sign_in_at),
    "created_at": lambda user: _to_int(user.created_at),
    "updated_at": lambda user: _to_int(user.updated_at),
}

# Sources that always have a value, so that a NOT NULL column needs no `when_null` for them.
NEVER_NULL_SOURCES = frozenset(
    {"id", "primary_email_verified", "banned", "locked", "public_metadata", "created_at", "updated_at", WHOLE_USER}
)

# Sources that do not identify a person. Their columns keep their values when a row is anonymized.
IMPERSONAL_FIELDS = frozenset(
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
class FieldSource:
    """The source of one column's value.

    `source` is the name of a computed value, a path such as `public_metadata.plan` (a number is the index in a list),
    `$` for the whole user, or None for a `constant`. `when_null` replaces null, with the ID in place of `{clerk_id}`.
    `extra_keys` are keys that are added to `$`, for columns that the table generates from them. Columns of a preset are
    `optional`: they are ignored if the table does not have them, and their `when_null` is used only if the column is
    NOT NULL.
    """

    source: str | None
    constant: Any = None
    when_null: Any = None
    extra_keys: Mapping[str, str] = field(default_factory=dict)
    optional: bool = False

    @property
    def root_field(self) -> str:
        """The field of Clerk's user at the start of the path."""
        return (self.source or "").partition(".")[0]

    @property
    def is_personal(self) -> bool:
        """Whether the value may identify the user."""
        return self.source is not None and self.root_field not in IMPERSONAL_FIELDS

    @property
    def needs_raw_json(self) -> bool:
        """Whether the value needs Clerk's whole JSON, because it is not computed from the fields of `User`."""
        return self.source is not None and self.source not in COMPUTED

    def make_reader(self) -> Value:
        """Return a function with the same result as `read_value`, by the shortest way for this column."""
        compute = COMPUTED.get(self.source or "")
        if compute is None or self.when_null is not None:
            return self.read_value
        return lambda user, _: compute(user)

    def read_value(self, user: User, data: Data) -> Any:
        """Return the value in JSON's types. `data` is Clerk's whole JSON if a column of the mapping needs it."""
        if self.source is None:
            return self.constant
        value = self._read(user, data)
        return fill_placeholder(self.when_null, user.id) if value is None else value

    def _read(self, user: User, data: Data) -> Any:
        if compute := COMPUTED.get(self.source or ""):
            return compute(user)
        if self.source == WHOLE_USER:
            document = {name: value for name, value in data.items() if name not in REDACTED_FIELDS}
            return document | {key: COMPUTED[source](user) for key, source in self.extra_keys.items()}
        steps = (self.source or "").split(".")
        value = _follow_path(data, steps)
        # In Clerk's own fields "" means null; in the app's metadata "" is a value of the app.
        return None if value == "" and len(steps) == 1 else value


def _follow_path(data: Data, steps: Sequence[str]) -> Any:
    """Return the value at a path of keys and list indexes; None if the path does not exist."""
    value: Any = data
    for step in steps:
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def fill_placeholder(template: Any, clerk_id: str) -> Any:
    """Return the replacement for null, with the ID in place of `{clerk_id}`."""
    return template.replace(PLACEHOLDER, clerk_id) if isinstance(template, str) else template
