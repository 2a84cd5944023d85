"""The source of one column's value (pure)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

from sync_service.clerk.entities import USER
from sync_service.clerk.objects import REQUEST_FIELD
from sync_service.clerk.resource import Resource
from sync_service.clerk.user import REDACTED_FIELDS
from sync_service.mapping.computed_values import (
    EXCLUSIVE_SOURCES,
    IMPERSONAL_FIELDS,
    NEVER_NULL_SOURCES,
    PARENT_KEYS,
    PRIMARY_EMAIL,
    WHOLE_USER,
    get_computed,
)
from sync_service.mapping.generators import NOW, parse_key_format
from sync_service.mapping.paths import Step, follow_path, get_root_field, parse_path

Data: TypeAlias = Mapping[str, Any]

# Returns a column's value from an object of Clerk and from the whole JSON of it.
Value: TypeAlias = Callable[[Resource, Data], Any]

PLACEHOLDER = "{clerk_id}"


# Documents of the app. In them "" is a value; in Clerk's own fields it means null.
_METADATA = frozenset({"public_metadata", "private_metadata", "unsafe_metadata"})

# sync/parents.py adds these to the JSON of a child.
_PARENT_KEYS = frozenset(PARENT_KEYS.values())
_NOT_IN_DOCUMENT = _PARENT_KEYS | {*REDACTED_FIELDS, REQUEST_FIELD}


@dataclass(frozen=True, slots=True)
class FieldSource:
    """The source of one column's value.

    `source` is the name of a computed value, a path such as `public_metadata.plan` (mapping/paths.py), `$` for the
    whole user, or None for a `constant` or a generated value. `fallbacks` are further sources: the first that is not
    null counts. `equals` makes the value a boolean. `when_null` replaces null, with the ID in place of `{clerk_id}`;
    `keep_on_null` leaves the value of the app; a new row has `when_null` then, or the default. An `insert_only` column
    is written on insert and never again. `generate` names a generator (mapping/generators.py). `extra_keys` are added
    to `$`, for columns that the table generates from them. Columns of a preset are `optional`: they are ignored if the
    table does not have them, and their `when_null` is used only if the column is NOT NULL. `entity` is the object with
    the value (clerk/entities.py).
    """

    source: str | None
    constant: Any = None
    when_null: Any = None
    extra_keys: Mapping[str, str] = field(default_factory=dict)
    optional: bool = False
    fallbacks: tuple[str, ...] = ()
    equals: Any = None
    generate: str | None = None
    insert_only: bool = False
    keep_on_null: bool = False
    entity: str = USER.name

    @property
    def sources(self) -> tuple[str, ...]:
        """All sources, in the order in which they are asked; empty for a constant or a generated value."""
        return () if self.source is None else (self.source, *self.fallbacks)

    @property
    def only_source(self) -> str | None:
        """The source whose values the column has unchanged; None for a list of sources, and with `equals`."""
        return None if self.fallbacks or self.equals is not None else self.source

    @property
    def is_exclusive(self) -> bool:
        """Whether Clerk gives the value to one user only."""
        is_users = self.equals is None and self.entity == USER.name
        return is_users and bool(self.sources) and set(self.sources) <= set(EXCLUSIVE_SOURCES)

    @property
    def shows_email(self) -> bool:
        """Whether the value may be the primary email."""
        return self.equals is None and self.entity == USER.name and PRIMARY_EMAIL in self.sources

    @property
    def is_parent_key(self) -> bool:
        """Whether the value is the app's own key of a parent."""
        return self.source in _PARENT_KEYS

    @property
    def root_fields(self) -> frozenset[str]:
        """The fields of Clerk's object at the start of the paths."""
        return frozenset(map(get_root_field, self.sources))

    @property
    def is_personal(self) -> bool:
        """Whether the value may identify the user. A boolean of `equals` does not."""
        return self.equals is None and not self.root_fields <= IMPERSONAL_FIELDS

    @property
    def needs_raw_json(self) -> bool:
        """Whether the value needs Clerk's whole JSON, because it is not computed from the fields of the object."""
        return any(source not in get_computed(self.entity) for source in self.sources)

    @property
    def can_be_null(self) -> bool:
        """Whether some users have no value, and nothing replaces it."""
        is_replaced = self.equals is not None or self.when_null is not None
        return bool(self.sources) and not is_replaced and NEVER_NULL_SOURCES[self.entity].isdisjoint(self.sources)

    @property
    def is_constant(self) -> bool:
        """Whether all rows have one value."""
        return self.source is None and self.generate is None

    @property
    def is_now(self) -> bool:
        """Whether the value is the time of the write."""
        return self.generate == NOW

    @property
    def is_change_time(self) -> bool:
        """Whether the value is the time of each write that changed the row."""
        return self.is_now and not self.insert_only

    @property
    def computed(self) -> Callable[[Any], Any] | None:
        """The function from Clerk's object to the value, if that is one computed value without a replacement."""
        is_replaced = self.fallbacks or self.equals is not None or self.when_null is not None
        return None if is_replaced else get_computed(self.entity).get(self.source or "")

    def make_reader(self) -> Value:
        """Return a function with the same result as `read_value`; for a generated key, one that returns new ones."""
        if self.generate is None or self.is_now:
            return self.read_value
        generate = parse_key_format(self.generate).make_generator()
        return lambda *_: generate()

    def read_value(self, resource: Resource, data: Data) -> Any:
        """Return the value in JSON's types. `data` is Clerk's whole JSON if a column of the mapping needs it."""
        if self.source is None:
            return self.constant
        values = (self._read(source, resource, data) for source in self.sources)
        value = next((value for value in values if value is not None), None)
        if self.equals is not None:
            # Python's True equals 1; in JSON they are different values.
            return value == self.equals and isinstance(value, bool) is isinstance(self.equals, bool)
        if value is None and not self.keep_on_null:
            return fill_placeholder(self.when_null, resource.id)
        return value

    def _read(self, source: str, resource: Resource, data: Data) -> Any:
        computed = get_computed(self.entity)
        if compute := computed.get(source):
            return compute(resource)
        if source == WHOLE_USER:
            document = {name: value for name, value in data.items() if name not in _NOT_IN_DOCUMENT}
            return document | {key: computed[name](resource) for key, name in self.extra_keys.items()}
        if source in _PARENT_KEYS:
            return data.get(source)
        value = follow_path(data, _parse_path(source))
        return None if value == "" and get_root_field(source) not in _METADATA else value


@lru_cache(maxsize=1000)
def _parse_path(path: str) -> tuple[Step, ...]:
    return parse_path(path)


def fill_placeholder(template: Any, clerk_id: str) -> Any:
    """Return the replacement for null, with the ID in place of `{clerk_id}`."""
    return template.replace(PLACEHOLDER, clerk_id) if isinstance(template, str) else template
