"""Parse the text of `sync.toml` into a mapping, or into a list of all its errors (pure)."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, time
from difflib import get_close_matches
from typing import Any

from sync_service.errors import SettingsError
from sync_service.mapping.fields import COMPUTED, PLACEHOLDER, WHOLE_USER, FieldSource
from sync_service.mapping.presets import DEFAULT, PRESETS
from sync_service.mapping.table import TableMapping
from sync_service.parsers import InvalidValue, parse_duration

_NAME = r'(?:"((?:[^"]|"")+)"|([^".]+))'
_TABLE = re.compile(rf"(?:{_NAME}\.)?{_NAME}")
_PATH = re.compile(r"[^.\s]+(?:\.[^.\s]+)*")

# Words in the names of columns that grant rights.
_RIGHT = re.compile(r"(?:^|_)(?:roles?|permissions?|admin|superuser|staff|scopes?|tier|plan)(?:_|$)")

_CHOICES = {
    "on_delete": ("cascade", "soft", "anonymize"),
    "email_conflict": ("release", "park"),
}
_KEYS = ("preset", "table", "clerk_id", "deleted_at", "delete_grace", "link_by_verified_email", "columns", *_CHOICES)
# `migrate` creates only tables that it knows. A mapping that changes one of these fields describes another table.
_SHAPE = ("schema", "table", "id_column", "columns", "deleted_at")
_COLUMN_KEYS = ("from", "constant", "when_null")

# Fields of Clerk's user (from its OpenAPI files) that look like misspelt names of `COMPUTED`.
_SIMILAR_FIELDS = frozenset(
    {"primary_email_address_id", "primary_phone_number_id", "profile_image_url", "unsafe_metadata"}
)


def parse_mapping(text: str) -> TableMapping:
    """Return the mapping that the file describes. Raises `SettingsError` with one sentence per error."""
    errors: list[str] = []
    users = _parse_users_table(text, errors)
    base = _choose_base(users, errors)
    changes = _read_keys(users, errors)
    if "columns" in changes and "preset" in users:
        changes["columns"] = {**base.columns, **changes["columns"]}
    mapping = replace(base, **changes)
    if any(getattr(mapping, name) != getattr(base, name) for name in _SHAPE):
        mapping = replace(mapping, created_by=None)
    errors += _find_contradictions(mapping)
    if errors:
        raise SettingsError(sorted(errors))
    return mapping


def _parse_users_table(text: str, errors: list[str]) -> dict[str, Any]:
    """Return the TOML table `users`, with a `preset` that stands before it."""
    try:
        file = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([f"is not TOML: {error}"]) from None
    users = file.pop("users", {})
    if not isinstance(users, dict):
        raise SettingsError(["users: must be a table; begin it with [users]"])
    if "preset" in file:
        users.setdefault("preset", file.pop("preset"))
    errors += [f"{key}: unknown; all keys belong below [users]" for key in file]
    errors += [f"users.{key}: unknown{_suggest_word(key, _KEYS)}" for key in users.keys() - set(_KEYS)]
    return users


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
    if key == "columns":
        return _read_columns(given, errors)
    if key == "link_by_verified_email":
        if not isinstance(given, bool):
            raise ValueError("must be true or false")
        return given
    if not isinstance(given, str) or not given:
        raise ValueError("must be a text")
    if key in _CHOICES and given not in _CHOICES[key]:
        raise ValueError(f"is not one of {', '.join(_CHOICES[key])}")
    if key == "table":
        return _parse_table_name(given)
    if key == "delete_grace":
        return parse_duration(given)
    return _strip_quotes(given)


def _parse_table_name(text: str) -> tuple[str, str]:
    """Return schema and table. Case is significant; only a name with a dot needs quotes."""
    match = _TABLE.fullmatch(text)
    if not match:
        raise ValueError('is not a table; write public.users, or "my schema"."my.table"')
    schema, table = match[1] or match[2], match[3] or match[4]
    return (schema or "public").replace('""', '"'), table.replace('""', '"')


def _strip_quotes(name: str) -> str:
    is_quoted = len(name) > 2 and name[0] == name[-1] == '"'
    return name[1:-1].replace('""', '"') if is_quoted else name


def _read_columns(given: Any, errors: list[str]) -> dict[str, FieldSource]:
    if not isinstance(given, dict):
        raise ValueError("must be a table; begin it with [users.columns]")  # noqa: TRY004  caught as an invalid value
    columns = {}
    for name, value in given.items():
        column = _read_column(f"users.columns.{name}", value, errors)
        if column is not None:
            columns[_strip_quotes(name)] = column
    return columns


def _read_column(key: str, given: Any, errors: list[str]) -> FieldSource | None:
    """Return the column; None after an error."""
    spec = _expand_column(key, given, errors)
    if spec is None:
        return None
    source, when_null = spec.get("from"), spec.get("when_null")
    if source is not None and not (isinstance(source, str) and _PATH.fullmatch(source)):
        errors.append(f"{key}: must be a field such as first_name or public_metadata.plan, or $")
        return None
    if isinstance(when_null, str) and "{" in when_null.replace(PLACEHOLDER, ""):
        errors.append(f"{key}.when_null: only {PLACEHOLDER} may be in braces")
    if source is not None and (hint := _suggest_source(source)):
        errors.append(f"{key}: Clerk's user has no {source}{hint}")
        return None
    return FieldSource(source, _to_json(spec.get("constant")), _to_json(when_null))


def _expand_column(key: str, given: Any, errors: list[str]) -> Mapping[str, Any] | None:
    """Return the long form of a column, `{ from = …, constant = …, when_null = … }`; None after an error."""
    if isinstance(given, str):
        return {"from": given}
    if not isinstance(given, Mapping):
        return {"constant": given}
    unknown = given.keys() - set(_COLUMN_KEYS)
    errors += [f"{key}.{name}: unknown{_suggest_word(name, _COLUMN_KEYS)}" for name in unknown]
    if ("from" in given) == ("constant" in given):
        errors.append(f"{key}: needs either `from`, a field of Clerk's user, or `constant`")
        return None
    return given


def _find_contradictions(mapping: TableMapping) -> Iterator[str]:
    if mapping.on_delete == "soft" and mapping.deleted_at is None:
        yield 'users.deleted_at: not set; on_delete = "soft" needs a column to mark the row'
    if mapping.id_column in mapping.columns:
        yield f"users.columns.{mapping.id_column}: is already the column of users.clerk_id; remove it here"
    if mapping.deleted_at in mapping.columns:
        yield f"users.columns.{mapping.deleted_at}: is already the column of users.deleted_at; remove it here"
    if mapping.link_by_verified_email and not any(c.source == "primary_email" for c in mapping.columns.values()):
        yield "users.link_by_verified_email: no column is filled from primary_email"
    yield from _find_unsafe_rights(mapping)


def _find_unsafe_rights(mapping: TableMapping) -> Iterator[str]:
    for name, column in mapping.columns.items():
        if column.root_field == "unsafe_metadata" and _is_right(name):
            yield f"users.columns.{name}: users write their unsafe_metadata themselves; use public_metadata instead"


def _is_right(column_name: str) -> bool:
    """Return whether the column probably grants rights; `isAdmin` counts like `is_admin`."""
    return bool(_RIGHT.search(re.sub("([A-Z])", r"_\1", column_name).lower()))


def _suggest_source(source: str) -> str:
    """Return a hint if the source looks like a misspelt field, else an empty text.

    Clerk may add fields at any time, so an unknown field is an error only if it is similar to a known one.
    """
    is_known = source == WHOLE_USER or source in COMPUTED or "." in source or source in _SIMILAR_FIELDS
    return "" if is_known else _suggest_word(source, COMPUTED)


def _suggest_word(word: str, known: Iterable[str]) -> str:
    matches = get_close_matches(word, list(known), n=1, cutoff=0.75)
    return f"; did you mean {matches[0]}?" if matches else ""


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return value
