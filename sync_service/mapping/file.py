"""`sync.toml`: its text in, a mapping out, or all that is wrong with it (pure)."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, time
from difflib import get_close_matches
from typing import Any

from sync_service.errors import SettingsError
from sync_service.mapping.presets import DEFAULT, PRESETS
from sync_service.mapping.sources import COMPUTED, PLACEHOLDER, WHOLE, Column
from sync_service.mapping.table import TableMapping
from sync_service.spellings import Misspelt, duration

_NAME = r'(?:"((?:[^"]|"")+)"|([^".]+))'
_TABLE = re.compile(rf"(?:{_NAME}\.)?{_NAME}")
_PATH = re.compile(r"[^.\s]+(?:\.[^.\s]+)*")

# Columns that say what somebody may do, by the words in their names.
_RIGHT = re.compile(r"(?:^|_)(?:roles?|permissions?|admin|superuser|staff|scopes?|tier|plan)(?:_|$)")

_CHOICES = {
    "on_delete": ("cascade", "soft", "anonymize"),
    "email_conflict": ("release", "park"),
}
_KEYS = ("preset", "table", "clerk_id", "deleted_at", "delete_grace", "link_by_verified_email", "columns", *_CHOICES)
# `migrate` makes just the tables that it knows.
_SHAPE = ("schema", "table", "clerk_id", "columns", "deleted_at")
_COLUMN_KEYS = ("from", "constant", "when_null")


def read_mapping(text: str) -> TableMapping:
    """Return the mapping that the file describes. Raises `SettingsError` with a sentence for every fault."""
    try:
        file = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([f"is not TOML: {error}"]) from None
    faults: list[str] = []
    users = file.pop("users", {})
    if not isinstance(users, dict):
        raise SettingsError(["users: is a table; begin it with [users]"])
    if "preset" in file:
        users.setdefault("preset", file.pop("preset"))
    faults += [f"{key}: unknown; all of it stands below [users]" for key in file]
    faults += [f"users.{key}: unknown{_meant(key, _KEYS)}" for key in users.keys() - set(_KEYS)]
    base = _base(users, faults)
    changes = {key: value for key in _KEYS if key in users for value in [_value(key, users[key], faults)]}
    changes = {key: value for key, value in changes.items() if value is not None and key != "preset"}
    if "table" in changes:
        changes["schema"], changes["table"] = changes["table"]
    if "columns" in changes and "preset" in users:
        changes["columns"] = {**base.columns, **changes["columns"]}
    mapping = replace(base, **changes)
    if any(getattr(mapping, name) != getattr(base, name) for name in _SHAPE):
        mapping = replace(mapping, created_by=None)
    faults += _contradictions(mapping)
    if faults:
        raise SettingsError(sorted(faults))
    return mapping


def _contradictions(mapping: TableMapping) -> list[str]:
    faults = []
    if mapping.on_delete == "soft" and mapping.deleted_at is None:
        faults.append('users.deleted_at: not set; on_delete = "soft" needs the column that says when')
    if mapping.clerk_id in mapping.columns:
        faults.append(f"users.columns.{mapping.clerk_id}: that is the column of users.clerk_id; leave it out here")
    if mapping.deleted_at in mapping.columns:
        faults.append(f"users.columns.{mapping.deleted_at}: that is the column of users.deleted_at; leave it out here")
    if mapping.link_by_verified_email and not any(c.source == "primary_email" for c in mapping.columns.values()):
        faults.append("users.link_by_verified_email: no column is filled from primary_email")
    faults += [
        f"users.columns.{name}: unsafe_metadata is written by the users themselves; fill this from public_metadata"
        for name, column in mapping.columns.items()
        if column.root == "unsafe_metadata" and _RIGHT.search(re.sub("([A-Z])", r"_\1", name).lower())
    ]
    return faults


def _base(users: dict[str, Any], faults: list[str]) -> TableMapping:
    preset = users.get("preset")
    if isinstance(preset, str) and preset in PRESETS:
        return PRESETS[preset]
    if preset is not None:
        faults.append(f"users.preset: is not one of {', '.join(PRESETS)}")
    elif "columns" in users and "clerk_id" not in users:
        faults.append("users.clerk_id: not set; name the column that holds the Clerk ID")
    return DEFAULT


def _value(key: str, given: Any, faults: list[str]) -> Any:
    """Return a key's value, or None after a fault."""
    try:
        return _read(key, given, faults)
    except (ValueError, Misspelt) as error:
        faults.append(f"users.{key}: {error}")
        return None


def _read(key: str, given: Any, faults: list[str]) -> Any:
    if key == "columns":
        if not isinstance(given, dict):
            raise ValueError("is a table; begin it with [users.columns]")
        return {_bare(name): column for name, spec in given.items() if (column := _column(name, spec, faults))}
    if key == "link_by_verified_email":
        if not isinstance(given, bool):
            raise ValueError("is true or false")
        return given
    if not isinstance(given, str) or not given:
        raise ValueError("is a text")
    if key in _CHOICES and given not in _CHOICES[key]:
        raise ValueError(f"is not one of {', '.join(_CHOICES[key])}")
    if key == "table":
        return _table(given)
    if key == "delete_grace":
        return duration(given)
    return _bare(given)


def _table(text: str) -> tuple[str, str]:
    """Return schema and table, each as it is written; quotes are needed only around a dot."""
    match = _TABLE.fullmatch(text)
    if not match:
        raise ValueError('is not a table; write public.users, or "my schema"."my.table"')
    schema, table = match[1] or match[2], match[3] or match[4]
    return (schema or "public").replace('""', '"'), table.replace('""', '"')


def _bare(name: str) -> str:
    quoted = len(name) > 2 and name[0] == name[-1] == '"'
    return name[1:-1].replace('""', '"') if quoted else name


def _column(name: str, spec: Any, faults: list[str]) -> Column | None:
    where = f"users.columns.{name}"
    if isinstance(spec, Mapping):
        faults += [f"{where}.{key}: unknown{_meant(key, _COLUMN_KEYS)}" for key in spec.keys() - set(_COLUMN_KEYS)]
        if ("from" in spec) == ("constant" in spec):
            faults.append(f"{where}: has either `from`, a field of Clerk's user, or `constant`")
            return None
        source, constant, when_null = spec.get("from"), spec.get("constant"), spec.get("when_null")
    elif isinstance(spec, str):
        source, constant, when_null = spec, None, None
    else:
        source, constant, when_null = None, spec, None
    if source is not None and not (isinstance(source, str) and _PATH.fullmatch(source)):
        faults.append(f"{where}: is filled from a field such as first_name or public_metadata.plan, or from $")
        return None
    if isinstance(when_null, str) and "{" in when_null.replace(PLACEHOLDER, ""):
        faults.append(f"{where}.when_null: knows {PLACEHOLDER} and nothing else in braces")
    if source and source != WHOLE and (meant := _meant(source, COMPUTED)) and _misspelt(source):
        faults.append(f"{where}: Clerk's user has no {source}{meant}")
        return None
    return Column(source, _json(constant), _json(when_null))


def _misspelt(source: str) -> bool:
    """Return whether it is almost, but not, one of the names that are known: Clerk may add others at any time."""
    return source not in COMPUTED and "." not in source and source not in _OTHERS


def _json(value: Any) -> Any:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return value


def _meant(word: str, known: Any) -> str:
    [*close] = get_close_matches(word, list(known), n=1, cutoff=0.75)
    return f"; is {close[0]} meant?" if close else ""


# Fields of Clerk's user (its OpenAPI files) that read almost like one of those above.
_OTHERS = frozenset({"primary_email_address_id", "primary_phone_number_id", "profile_image_url", "unsafe_metadata"})
