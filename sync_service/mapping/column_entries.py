"""One entry of `[users.columns]` or `[users.deleted]` → the source of its column, or the errors of the entry (pure)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, time
from difflib import get_close_matches
from typing import Any

from sync_service.clerk.entities import USER, Entity
from sync_service.mapping.computed_values import COMPUTED, PARENT_KEYS, WHOLE_USER
from sync_service.mapping.fields import PLACEHOLDER, FieldSource
from sync_service.mapping.generators import NOW, parse_key_format
from sync_service.mapping.paths import parse_path

_KEYS = ("from", "constant", "generate", "when_null", "on_null", "equals", "write")
_FORMS = ("from", "constant", "generate")
# These keys say how a value of Clerk is used, so a constant or a generated value has none of them.
_KEYS_OF_FROM = ("when_null", "on_null", "equals")
_CHOICES = {"write": ("insert", "always"), "on_null": ("keep",)}

# Fields of Clerk's user (from its OpenAPI files) that look like misspelt names of `COMPUTED`.
_SIMILAR_FIELDS = frozenset(
    {"primary_email_address_id", "primary_phone_number_id", "profile_image_url", "unsafe_metadata"}
)

# The fields whose misspelt names are errors, by the entity (from Clerk's OpenAPI files).
_FIELDS: Mapping[str, Iterable[str]] = {
    "user": COMPUTED,
    "session": (
        *("id", "user_id", "client_id", "status", "created_at", "updated_at", "last_active_at", "expire_at"),
        *("abandon_at", "ended_at", "latest_activity", "actor", "last_active_organization_id", "event_attributes"),
    ),
    "organization": (
        *("id", "name", "slug", "image_url", "has_image", "created_by", "created_at", "updated_at", "members_count"),
        *("public_metadata", "private_metadata", "max_allowed_memberships", "pending_invitations_count"),
    ),
    "membership": (
        *("id", "role", "role_name", "permissions", "created_at", "updated_at", "organization", "public_user_data"),
        *("public_metadata", "private_metadata"),
    ),
}


def read_column(key: str, given: Any, errors: list[str], entity: Entity = USER) -> FieldSource | None:
    """Return the source that an entry of `[users.columns]` describes; None after an error. `key` is for messages."""
    entry = _expand(key, given)
    found = list(_check_entry(key, entry, entity)) if isinstance(entry, Mapping) else [entry]
    errors += found
    return None if found or isinstance(entry, str) else replace(_make_source(entry), entity=entity.name)


def read_mark(key: str, given: Any, errors: list[str]) -> FieldSource | None:
    """Return the value that an entry of `[users.deleted]` describes; None after an error."""
    if not isinstance(given, Mapping):
        return FieldSource(None, _to_json(given))
    if given == {"generate": NOW}:
        return FieldSource(None, generate=NOW)
    if given.keys() == {"constant"}:
        return FieldSource(None, _to_json(given["constant"]))
    errors.append(f'{key}: must be a value, or {{ generate = "now" }}')
    return None


def suggest_word(word: str, known: Iterable[str]) -> str:
    """Return a hint with the known word that is similar, or an empty text."""
    matches = get_close_matches(word, list(known), n=1, cutoff=0.75)
    return f"; did you mean {matches[0]}?" if matches else ""


def _expand(key: str, given: Any) -> Mapping[str, Any] | str:
    """Return the long form of an entry, or an error."""
    if isinstance(given, Mapping):
        return given
    if isinstance(given, list):
        return f"{key}: a list alone is ambiguous; write {{ from = [...] }} or {{ constant = [...] }}"
    return {"from": given} if isinstance(given, str) else {"constant": given}


def _make_source(entry: Mapping[str, Any]) -> FieldSource:
    write = entry.get("write")
    if "from" not in entry:
        generate = entry.get("generate")
        is_always = write == "always" or (generate == NOW and write is None)
        return FieldSource(None, _to_json(entry.get("constant")), generate=generate, insert_only=not is_always)
    source, *fallbacks = [entry["from"]] if isinstance(entry["from"], str) else entry["from"]
    return FieldSource(
        source,
        when_null=_to_json(entry.get("when_null")),
        fallbacks=tuple(fallbacks),
        equals=entry.get("equals"),
        insert_only=write == "insert",
        keep_on_null="on_null" in entry,
    )


def _check_entry(key: str, entry: Mapping[str, Any], entity: Entity) -> Iterator[str]:
    for name in sorted(entry.keys() - set(_KEYS)):
        yield f"{key}.{name}: unknown{suggest_word(name, _KEYS)}"
    if sum(form in entry for form in _FORMS) != 1:
        yield f"{key}: needs one of `from`, a field of Clerk's {entity.name}, `constant` and `generate`"
        return
    for name, choices in _CHOICES.items():
        if entry.get(name, choices[0]) not in choices:
            yield f"{key}.{name}: is not {' or '.join(choices)}"
    if "from" in entry:
        yield from _check_sources(key, entry, entity)
        return
    for name in _KEYS_OF_FROM:
        if name in entry:
            yield f"{key}.{name}: belongs to `from` only; remove it"
    if "generate" in entry:
        yield from _check_generator(key, entry)


def _check_sources(key: str, entry: Mapping[str, Any], entity: Entity) -> Iterator[str]:
    given = entry["from"]
    sources = given if isinstance(given, list) else [given]
    if not sources:
        yield f"{key}: the list of `from` is empty; name at least one field"
    for source in sources:
        if not _is_path(source):
            yield f"{key}: must be a field such as first_name or public_metadata.plan, or $"
        elif (hint := _suggest_source(source, entity)) is not None:
            yield f"{key}: Clerk's {entity.name} has no {source}{hint}"
    yield from _check_null(key, entry)


def _check_null(key: str, entry: Mapping[str, Any]) -> Iterator[str]:
    when_null = entry.get("when_null")
    if isinstance(when_null, str) and "{" in when_null.replace(PLACEHOLDER, ""):
        yield f"{key}.when_null: only {PLACEHOLDER} may be in braces"
    if "equals" not in entry:
        return
    if not isinstance(entry["equals"], str | bool | int | float):
        yield f"{key}.equals: must be a text, a number, true or false"
    if "when_null" in entry or "on_null" in entry:
        yield f"{key}: equals gives true or false, never null; remove when_null and on_null"


def _check_generator(key: str, entry: Mapping[str, Any]) -> Iterator[str]:
    generate = entry["generate"]
    if generate == NOW:
        return
    try:
        parse_key_format(generate if isinstance(generate, str) else "")
    except ValueError as error:
        yield f"{key}.generate: {error}"
    if entry.get("write") == "always":
        yield f"{key}: a generated value is written on insert only; an existing row never gets another one"


def _is_path(source: Any) -> bool:
    if not isinstance(source, str):
        return False
    try:
        parse_path(source)
    except ValueError:
        return False
    return True


def _suggest_source(source: str, entity: Entity) -> str | None:
    """Return a hint if the source looks like a misspelt field, or cannot exist; else None.

    Clerk may add fields at any time, so an unknown field is an error only if it is similar to a known one.
    """
    if source in PARENT_KEYS.values() or (entity.parents and source.startswith("user.")):
        return _check_parent_key(source, entity)
    known = _FIELDS[entity.name]
    is_path = "." in source or "[" in source
    is_known = source == WHOLE_USER or source in known or is_path or source in _SIMILAR_FIELDS
    return None if is_known else suggest_word(source, known) or None


def _check_parent_key(source: str, entity: Entity) -> str | None:
    """Return a hint with the keys of the parents that the entity has; None if the source is one of them."""
    keys = sorted(PARENT_KEYS[parent.entity] for parent in entity.parents)
    if source in keys:
        return None
    return f"; write {' or '.join(keys)}" if keys else ""


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return value
