"""The rules of columns that show a value of Clerk's user, by their types and rows (pure)."""

from sync_service.mapping.introspection import Column
from sync_service.mapping.presets import PLACEHOLDER_EMAIL
from sync_service.mapping.validation import MIN_ID_LENGTH
from sync_service.suggest.evidence import Evidence
from sync_service.suggest.key_formats import choose_nanoid, fits
from sync_service.suggest.names import normalize
from sync_service.suggest.rules import Decision, give_up, leave, write_once

_PERSONAL = frozenset({"first_name", "last_name", "full_name", "primary_phone", "image_url"})
_KEEP = "null in Clerk keeps the app's value"


def decide_source(facts: Evidence, column: Column, source: str) -> Decision:
    """Return the rule for a column that shows this value of Clerk's user."""
    if source == "primary_email":
        return _decide_email(column)
    if source == "username":
        return _decide_username(facts, column)
    if source in {"banned", "locked"}:
        return _decide_flag(facts, column, source)
    if source in _PERSONAL:
        return _decide_personal(facts, column, source)
    return Decision(source, _REMARKS.get(source, ""))


_REMARKS = {
    "public_metadata": "the metadata that your backend stores at Clerk",
    "$": "the whole user, without private and unsafe metadata",
}


def _decide_email(column: Column) -> Decision:
    if not column.not_null:
        return Decision("primary_email")
    spec = {"from": "primary_email", "when_null": _choose_placeholder(column)}
    return Decision(spec, "NOT NULL, but some users have no email")


def decide_second_email(facts: Evidence, column: Column) -> Decision:
    """Return the rule that fills an address beside that of the login, such as that of the bills."""
    when_null = _choose_placeholder(column) if facts.is_unique(column.name) else ""
    spec = {"from": "primary_email", "when_null": when_null}
    return write_once(spec, "NOT NULL: the user's email; later the app may change it")


def _choose_placeholder(column: Column) -> str:
    fits = column.length is None or column.length >= MIN_ID_LENGTH + len("@users.invalid")
    return PLACEHOLDER_EMAIL if fits else "{clerk_id}"


def _decide_username(facts: Evidence, column: Column) -> Decision:
    if column.has_default:
        return leave("the default of the database names a new user, and the app may change it")
    if column.not_null:
        return _fill_username(facts, column)
    if normalize(column.name) == "username":
        return Decision({"from": "username", "on_null": "keep"}, _KEEP)
    return write_once({"from": "username"}, "later the app may change it")


def _fill_username(facts: Evidence, column: Column) -> Decision:
    if facts.list_checks(column.name) and fits("cuid2", column.length):
        # Small letters and digits, which most constraints permit.
        return write_once({"generate": "cuid2"}, "NOT NULL with a constraint; later the app may change it")
    if _fits_id(column):
        # The local part of an email is not unique.
        sources = "username" if facts.is_unique(column.name) else ["username", "email_local_part"]
        return write_once({"from": sources, "when_null": "{clerk_id}"}, "NOT NULL; later the app may change it")
    generator = choose_nanoid(column.length)
    if generator is None:
        return give_up("it is too short for a random value, and not every user has a username")
    return write_once({"generate": generator}, "NOT NULL, too short for a Clerk ID; later the app may change it")


def _decide_flag(facts: Evidence, column: Column, source: str) -> Decision:
    rows = facts.read_rows(column.name)
    if not (column.has_default or rows.labels.get("true")):
        return Decision(source)
    if not column.has_default and (column.not_null or rows.values == facts.rows):
        return write_once({"constant": False}, "the app writes it itself")
    return leave("the app writes it itself, and Clerk's state would overwrite it")


def _decide_personal(facts: Evidence, column: Column, source: str) -> Decision:
    if column.not_null and not column.has_default:
        when_null = _choose_when_null(facts, column)
        if when_null is None:
            return give_up("it is unique and too short for a Clerk ID, and not every user has a value")
        return Decision(
            {"from": source, "when_null": when_null, "on_null": "keep"}, f"NOT NULL in a new row; later {_KEEP}"
        )
    if column.not_null:
        return Decision({"from": source, "on_null": "keep"}, f"{_KEEP}, and the default of a new row")
    is_in_use = facts.read_rows(column.name).values > 0
    return Decision({"from": source, "on_null": "keep"}, _KEEP) if is_in_use else Decision(source)


def _choose_when_null(facts: Evidence, column: Column) -> str | None:
    """Return the value of a new row: an empty text, or the Clerk ID where an empty text may be refused."""
    is_unique = facts.is_unique(column.name)
    if not (is_unique or facts.list_checks(column.name)):
        return ""
    if _fits_id(column):
        return "{clerk_id}"
    return None if is_unique else ""


def _fits_id(column: Column) -> bool:
    return column.length is None or column.length >= MIN_ID_LENGTH
