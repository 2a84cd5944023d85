"""One table of `sync.toml` that describes a table of the app → the fields of its mapping, and their errors (pure)."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sync_service.clerk.entities import SESSION, USER, Entity
from sync_service.mapping.column_entries import read_column, read_mark
from sync_service.mapping.computed_values import EXCLUSIVE_SOURCES
from sync_service.mapping.fields import FieldSource
from sync_service.mapping.table import TableMapping
from sync_service.mapping.table_names import parse_table_name, strip_quotes
from sync_service.parsers import InvalidValue, parse_duration

# Words in the names of columns that grant rights.
_RIGHT = re.compile(r"(?:^|_)(?:roles?|permissions?|admin|superuser|staff|scopes?|tier|plan)(?:_|$)")

_CHOICES = {
    "on_delete": ("cascade", "soft", "anonymize"),
    "email_conflict": ("release", "park"),
}
_FLAGS = ("link_by_verified_email", "link_by_external_id")
_TABLES = ("columns", "deleted")
_DURATIONS = ("delete_grace", "keep")
_COMMON_KEYS = ("table", "on_delete", "deleted_at", "delete_grace", *_TABLES)
_OWN_KEYS = {USER.name: ("preset", "email_conflict", *_FLAGS), SESSION.name: ("keep",)}


def list_keys(entity: Entity) -> tuple[str, ...]:
    """Return the keys that the section of an entity may have."""
    return (entity.id_key, *_OWN_KEYS.get(entity.name, ()), *_COMMON_KEYS)


def read_section(entity: Entity, given: Mapping[str, Any], errors: list[str]) -> dict[str, Any]:
    """Return the fields of `TableMapping` that the section sets, without those that have an error."""
    fields: dict[str, Any] = {}
    for key in list_keys(entity):
        if key not in given:
            continue
        try:
            fields[key] = _read_value(entity, key, given[key], errors)
        except (ValueError, InvalidValue) as error:
            errors.append(f"{entity.section}.{key}: {error}")
    fields.pop("preset", None)
    if entity.id_key in fields:
        fields["id_column"] = fields.pop(entity.id_key)
    if "table" in fields:
        fields["schema"], fields["table"] = fields["table"]
    return fields


def _read_value(entity: Entity, key: str, given: Any, errors: list[str]) -> Any:
    if key in _TABLES:
        return _read_entries(entity, key, given, errors)
    if key in _FLAGS:
        return _read_flag(given)
    if not isinstance(given, str) or not given:
        raise ValueError("must be a text")
    if key in _CHOICES and given not in _CHOICES[key]:
        raise ValueError(f"is not one of {', '.join(_CHOICES[key])}")
    if key == "table":
        return parse_table_name(given)
    if key in _DURATIONS:
        return parse_duration(given)
    return strip_quotes(given)


def _read_flag(given: Any) -> bool:
    if not isinstance(given, bool):
        raise ValueError("must be true or false")  # noqa: TRY004  caught as an invalid value
    return given


def _read_entries(entity: Entity, key: str, given: Any, errors: list[str]) -> dict[str, FieldSource]:
    name = f"{entity.section}.{key}"
    if not isinstance(given, dict):
        raise ValueError(f"must be a table; begin it with [{name}]")  # noqa: TRY004  caught as an invalid value

    def read(column: str, value: Any) -> FieldSource | None:
        return (
            read_column(f"{name}.{column}", value, errors, entity)
            if key == "columns"
            else read_mark(f"{name}.{column}", value, errors)
        )

    entries = {strip_quotes(column): read(column, value) for column, value in given.items()}
    return {column: entry for column, entry in entries.items() if entry is not None}


def find_contradictions(mapping: TableMapping) -> Iterator[str]:
    """Yield the errors that concern several keys of a section."""
    section, id_key = mapping.kind.section, mapping.kind.id_key
    if mapping.on_delete == "soft" and not mapping.deletion_marks:
        why = 'on_delete = "soft" needs a column to mark the row'
        yield f"{section}.deleted_at: not set; {why}, or [{section}.deleted]"
    if mapping.id_column in mapping.columns:
        yield f"{section}.columns.{mapping.id_column}: is already the column of {section}.{id_key}; remove it here"
    if mapping.deleted_at in mapping.columns:
        yield f"{section}.columns.{mapping.deleted_at}: is already the column of {section}.deleted_at; remove it here"
    if mapping.link_by_verified_email and not any(c.shows_email for c in mapping.columns.values()):
        yield "users.link_by_verified_email: no column is filled from primary_email"
    yield from _find_wrong_marks(mapping)
    yield from _find_unsafe_rights(mapping)


def _find_wrong_marks(mapping: TableMapping) -> Iterator[str]:
    section, id_key = mapping.kind.section, mapping.kind.id_key
    for name, mark in mapping.deleted.items():
        column = mapping.columns.get(name)
        if name == mapping.id_column:
            purpose = f"the column of {section}.{id_key}, which every event needs"
            yield f"{section}.deleted.{name}: is {purpose}; remove it here"
        if name == mapping.deleted_at and not mark.is_now:
            yield f"{section}.deleted.{name}: is already the column of {section}.deleted_at; remove one of them"
        if column and column.entity == USER.name and not set(EXCLUSIVE_SOURCES).isdisjoint(column.sources):
            yield f"{section}.deleted.{name}: a deletion releases a value of {column.source} by itself; remove it here"


def _find_unsafe_rights(mapping: TableMapping) -> Iterator[str]:
    for name, column in mapping.columns.items():
        if "unsafe_metadata" in column.root_fields and _is_right(name):
            yield f"users.columns.{name}: users write their unsafe_metadata themselves; use public_metadata instead"


def _is_right(column_name: str) -> bool:
    """Return whether the column probably grants rights; `isAdmin` counts like `is_admin`."""
    return bool(_RIGHT.search(re.sub("([A-Z])", r"_\1", column_name).lower()))
