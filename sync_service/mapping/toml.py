"""Parse the text of `sync.toml` into a mapping, or into a list of all its errors (pure)."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sync_service.clerk.entities import ENTITIES, USER, Entity
from sync_service.errors import SettingsError
from sync_service.mapping.carry_over_entries import find_unsafe_tables, read_carry_over_tables
from sync_service.mapping.column_entries import suggest_word
from sync_service.mapping.computed_values import PARENT_KEYS
from sync_service.mapping.presets import DEFAULT, PRESETS
from sync_service.mapping.section import find_contradictions, list_keys, read_section
from sync_service.mapping.table import TableMapping

# `migrate` creates only tables that it knows. A mapping that changes one of these fields describes another table.
_SHAPE = ("schema", "table", "id_column", "columns", "deleted_at", "deleted")

_CARRY_OVER = "carry_over"
_RELATED = [entity for entity in ENTITIES.values() if entity is not USER]
_KEYS: Mapping[str, tuple[str, ...]] = {
    **{entity.section: list_keys(entity) for entity in ENTITIES.values()},
    "changes": ("record",),
}
_ALWAYS = (USER.section, "changes", _CARRY_OVER)

# A failed command can leave an empty file. With the default table, webhooks would fill a table beside the app's own.
_NO_ENTRY = (
    "has no entry; `sync-service mapping suggest` prints the entries for your table, and without the file the default"
    " table is used"
)


def parse_mapping(text: str) -> TableMapping:
    """Return the mapping of the users, with the related ones. Raises `SettingsError` with one sentence per error."""
    errors: list[str] = []
    file = _parse_file(text, errors)
    related = [_read_related(entity, file[entity.section], errors) for entity in _RELATED if entity.section in file]
    mapping = _join_related(_read_users(file, errors), [other for other in related if other])
    if _is_recording(file["changes"], errors):
        mapping = mapping.with_recording(notifies=False)
    errors += [error for one in mapping.all for error in find_contradictions(one)]
    errors += _find_missing_parents(mapping)
    sections = {(one.schema, one.table): one.kind.section for one in mapping.all}
    errors += find_unsafe_tables(mapping.carry_over, sections, mapping.id_column)
    if errors:
        raise SettingsError(sorted(errors))
    return mapping


def _read_users(file: Mapping[str, dict[str, Any]], errors: list[str]) -> TableMapping:
    users = file[USER.section]
    base = _choose_base(users, errors)
    changes = read_section(USER, users, errors)
    changes["carry_over"] = read_carry_over_tables(file[_CARRY_OVER], errors)
    if "columns" in changes and "preset" in users:
        changes["columns"] = {**base.columns, **changes["columns"]}
    mapping = replace(base, **changes)
    is_other_table = any(getattr(mapping, name) != getattr(base, name) for name in _SHAPE)
    return replace(mapping, created_by=None) if is_other_table else mapping


def _parse_file(text: str, errors: list[str]) -> dict[str, dict[str, Any]]:
    """Return the tables of the file by name, those of `_ALWAYS` in any case. A `preset` may stand before `users`."""
    try:
        file = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([f"is not TOML: {error}"]) from None
    names = [name for name in (*_KEYS, _CARRY_OVER) if name in file or name in _ALWAYS]
    tables = {name: _take_table(file, name) for name in names}
    if "preset" in file:
        tables[USER.section].setdefault("preset", file.pop("preset"))
    sections = ", ".join(f"[{name}]" for name in _KEYS)
    errors += [f"{key}: unknown; all keys belong below {sections} or [{_CARRY_OVER}.<name>]" for key in file]
    errors += _find_unknown_keys(tables)
    if not errors:
        _require_entry(tables)
    return tables


def _require_entry(tables: Mapping[str, Mapping[str, Any]]) -> None:
    if all(value == {} for table in tables.values() for value in table.values()):
        raise SettingsError([_NO_ENTRY])


def _find_unknown_keys(tables: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, known in _KEYS.items():
        unknown = tables.get(name, {}).keys() - set(known)
        yield from (f"{name}.{key}: unknown{suggest_word(key, known)}" for key in unknown)


def _take_table(file: dict[str, Any], name: str) -> dict[str, Any]:
    table = file.pop(name, {})
    if not isinstance(table, dict):
        raise SettingsError([f"{name}: must be a table; begin it with [{name}]"])
    return table


def _read_related(entity: Entity, given: Mapping[str, Any], errors: list[str]) -> TableMapping | None:
    """Return the mapping of a session, an organization or a membership; None after an error."""
    needed = {
        "table": "name the table",
        entity.id_key: f"name the column that holds Clerk's ID of the {entity.name}",
        "columns": f"list the columns below [{entity.section}.columns]",
    }
    errors += [f"{entity.section}.{key}: not set; {why}" for key, why in needed.items() if key not in given]
    fields = read_section(entity, given, errors)
    is_complete = {"id_column", "table", "columns"} <= fields.keys()
    return TableMapping(entity=entity.name, **fields) if is_complete else None


def _join_related(users: TableMapping, related: Sequence[TableMapping]) -> TableMapping:
    """Return the mapping of the users with the related ones; each parent knows that it has children."""
    parents = {parent.entity for other in related for parent in other.kind.parents}
    joined = tuple(replace(other, has_children=other.entity in parents) for other in related)
    return replace(users, related=joined, has_children=users.entity in parents)


def _find_missing_parents(mapping: TableMapping) -> Iterator[str]:
    mapped = {one.entity for one in mapping.all}
    for child in mapping.related:
        for name, field in child.columns.items():
            for parent, key in PARENT_KEYS.items():
                if key in field.sources and parent not in mapped:
                    section = ENTITIES[parent].section
                    yield f"{child.kind.section}.columns.{name}: {key} needs the table of [{section}] in this file"


def _is_recording(feed: Mapping[str, Any], errors: list[str]) -> bool:
    record = feed.get("record", False)
    if not isinstance(record, bool):
        errors.append("changes.record: must be true or false")
    return record is True


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
