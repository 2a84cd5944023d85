"""Parse the text of `sync.toml` into a mapping, or into a list of all its errors (pure)."""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from sync_service.errors import SettingsError
from sync_service.mapping.carry_over_entries import find_unsafe_tables, read_carry_over_tables
from sync_service.mapping.column_entries import read_column, read_mark, suggest_word
from sync_service.mapping.computed_values import EXCLUSIVE_SOURCES
from sync_service.mapping.fields import FieldSource
from sync_service.mapping.presets import DEFAULT, PRESETS
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
_KEYS = ("preset", "table", "clerk_id", "deleted_at", "delete_grace", *_FLAGS, *_TABLES, *_CHOICES)
# The tables of the file, each with its keys; the keys below `carry_over` are the app's own.
_SECTIONS: Mapping[str, tuple[str, ...]] = {"users": _KEYS, "changes": ("record",), "carry_over": ()}
# `migrate` creates only tables that it knows. A mapping that changes one of these fields describes another table.
_SHAPE = ("schema", "table", "id_column", "columns", "deleted_at", "deleted")

_EntryReader: TypeAlias = Callable[[str, Any, list[str]], FieldSource | None]


# A failed command can leave an empty file. With the default table, webhooks would fill a table beside the app's own.
_NO_ENTRY = (
    "has no entry; `sync-service mapping suggest` prints the entries for your table, and without the file the default"
    " table is used"
)


def parse_mapping(text: str) -> TableMapping:
    """Return the mapping that the file describes. Raises `SettingsError` with one sentence per error."""
    errors: list[str] = []
    sections = _parse_sections(text, errors)
    users = sections["users"]
    base = _choose_base(users, errors)
    changes = _read_keys(users, errors) | _read_feed(sections["changes"], errors)
    changes["carry_over"] = read_carry_over_tables(sections["carry_over"], errors)
    if "columns" in changes and "preset" in users:
        changes["columns"] = {**base.columns, **changes["columns"]}
    mapping = replace(base, **changes)
    if any(getattr(mapping, name) != getattr(base, name) for name in _SHAPE):
        mapping = replace(mapping, created_by=None)
    errors += _find_contradictions(mapping)
    if errors:
        raise SettingsError(sorted(errors))
    return mapping


def _parse_sections(text: str, errors: list[str]) -> dict[str, dict[str, Any]]:
    """Return the TOML tables of the file by their names. A `preset` may stand before the table `users`."""
    try:
        file = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([f"is not TOML: {error}"]) from None
    sections = {name: _take_table(file, name) for name in _SECTIONS}
    if "preset" in file:
        sections["users"].setdefault("preset", file.pop("preset"))
    errors += [f"{key}: unknown; all keys belong below [users], [changes] or [carry_over.<name>]" for key in file]
    errors += _find_unknown_keys(sections)
    if not errors and all(value == {} for section in sections.values() for value in section.values()):
        raise SettingsError([_NO_ENTRY])
    return sections


def _find_unknown_keys(sections: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, keys in _SECTIONS.items():
        unknown = sections[name].keys() - set(keys) if keys else ()
        yield from (f"{name}.{key}: unknown{suggest_word(key, keys)}" for key in unknown)


def _take_table(file: dict[str, Any], name: str) -> dict[str, Any]:
    table = file.pop(name, {})
    if not isinstance(table, dict):
        raise SettingsError([f"{name}: must be a table; begin it with [{name}]"])
    return table


def _read_feed(feed: Mapping[str, Any], errors: list[str]) -> dict[str, bool]:
    record = feed.get("record", False)
    if not isinstance(record, bool):
        errors.append("changes.record: must be true or false")
    return {"records_changes": record is True}


def _choose_base(users: Mapping[str, Any], errors: list[str]) -> TableMapping:
    """Return the mapping that the keys of the file change: the preset, or the built-in table."""
    preset = users.get("preset")
    if isinstance(preset, str) and preset in PRESETS:
        return PRESETS[preset]
    if preset is not None:
        errors.append(f"users.preset: is not one of {', '.join(PRESETS)}")
    elif "columns" in users and "clerk_id" not in users:
        errors.append("users.clerk_id: not set; name the column that holds the Clerk ID")
    return DEFAULT


def _read_keys(users: Mapping[str, Any], errors: list[str]) -> dict[str, Any]:
    """Return the fields of `TableMapping` that the file sets, without those that have an error."""
    fields: dict[str, Any] = {}
    for key in _KEYS:
        if key not in users:
            continue
        try:
            fields[key] = _read_value(key, users[key], errors)
        except (ValueError, InvalidValue) as error:
            errors.append(f"users.{key}: {error}")
    fields.pop("preset", None)
    if "clerk_id" in fields:
        fields["id_column"] = fields.pop("clerk_id")
    if "table" in fields:
        fields["schema"], fields["table"] = fields["table"]
    return fields


def _read_value(key: str, given: Any, errors: list[str]) -> Any:
    if key in _TABLES:
        return _read_entries(key, given, read_column if key == "columns" else read_mark, errors)
    if key in _FLAGS:
        return _read_flag(given)
    if not isinstance(given, str) or not given:
        raise ValueError("must be a text")
    if key in _CHOICES and given not in _CHOICES[key]:
        raise ValueError(f"is not one of {', '.join(_CHOICES[key])}")
    if key == "table":
        return parse_table_name(given)
    if key == "delete_grace":
        return parse_duration(given)
    return strip_quotes(given)


def _read_flag(given: Any) -> bool:
    if not isinstance(given, bool):
        raise ValueError("must be true or false")  # noqa: TRY004  caught as an invalid value
    return given


def _read_entries(key: str, given: Any, read: _EntryReader, errors: list[str]) -> dict[str, FieldSource]:
    if not isinstance(given, dict):
        raise ValueError(f"must be a table; begin it with [users.{key}]")  # noqa: TRY004  caught as an invalid value
    entries = {strip_quotes(name): read(f"users.{key}.{name}", value, errors) for name, value in given.items()}
    return {name: entry for name, entry in entries.items() if entry is not None}


def _find_contradictions(mapping: TableMapping) -> Iterator[str]:
    if mapping.on_delete == "soft" and not mapping.deletion_marks:
        yield 'users.deleted_at: not set; on_delete = "soft" needs a column to mark the row, or [users.deleted]'
    if mapping.id_column in mapping.columns:
        yield f"users.columns.{mapping.id_column}: is already the column of users.clerk_id; remove it here"
    if mapping.deleted_at in mapping.columns:
        yield f"users.columns.{mapping.deleted_at}: is already the column of users.deleted_at; remove it here"
    if mapping.link_by_verified_email and not any(c.shows_email for c in mapping.columns.values()):
        yield "users.link_by_verified_email: no column is filled from primary_email"
    yield from _find_wrong_marks(mapping)
    yield from _find_unsafe_rights(mapping)
    yield from find_unsafe_tables(mapping.carry_over, (mapping.schema, mapping.table), mapping.id_column)


def _find_wrong_marks(mapping: TableMapping) -> Iterator[str]:
    for name, mark in mapping.deleted.items():
        column = mapping.columns.get(name)
        if name == mapping.id_column:
            yield f"users.deleted.{name}: is the column of users.clerk_id, which every event needs; remove it here"
        if name == mapping.deleted_at and not mark.is_now:
            yield f"users.deleted.{name}: is already the column of users.deleted_at; remove one of them"
        if column and not set(EXCLUSIVE_SOURCES).isdisjoint(column.sources):
            yield f"users.deleted.{name}: a deletion releases a value of {column.source} by itself; remove it here"


def _find_unsafe_rights(mapping: TableMapping) -> Iterator[str]:
    for name, column in mapping.columns.items():
        if "unsafe_metadata" in column.root_fields and _is_right(name):
            yield f"users.columns.{name}: users write their unsafe_metadata themselves; use public_metadata instead"


def _is_right(column_name: str) -> bool:
    """Return whether the column probably grants rights; `isAdmin` counts like `is_admin`."""
    return bool(_RIGHT.search(re.sub("([A-Z])", r"_\1", column_name).lower()))
