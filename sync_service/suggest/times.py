"""Times of the app's row: created, updated, last seen (pure)."""

from collections.abc import Callable, Sequence

from sync_service.mapping.coercion import TIME_TYPES
from sync_service.mapping.introspection import Column
from sync_service.suggest.evidence import Evidence
from sync_service.suggest.names import parse_words, split_words, strip_time_words
from sync_service.suggest.rules import Decision, give_up, leave, write_once

_CREATED = parse_words("created create creation inserted joined registered registration signedup signup added")
_UPDATED = parse_words("updated update modified modification changed lastupdated lastmodified lastchanged")
_SIGN_IN = parse_words("lastsignin lastlogin lastloggedin lastsignedin")
_ACTIVITY = parse_words("lastactive lastseen lastactivity lastonline lastvisit lastvisited")

_ROW_TIME = "a time of the app's row, not of Clerk's user"


def is_creation_name(name: str) -> bool:
    """Return whether the column holds the time at which the row was created."""
    return strip_time_words(name) in _CREATED


def decide_time(facts: Evidence, column: Column) -> Decision | None:
    """Return the decision about a column with a usual name of a time; None for any other column."""
    name = strip_time_words(column.name)
    if column.base == "int8":
        return _decide_number(column, name)
    if column.base not in TIME_TYPES:
        return None
    decide = next((decide for names, decide in _DECISIONS if name in names), None)
    return decide(facts, column) if decide else None


def _decide_creation(facts: Evidence, column: Column) -> Decision:
    if facts.is_keyed_by_clerk and not (column.not_null and column.has_default):
        # The row is a copy of Clerk's user. Existing rows keep the time that they have.
        if facts.read_rows(column.name).values:
            return write_once({"from": "created_at"}, "Clerk's time; existing rows keep theirs")
        return Decision("created_at")
    if column.has_default:
        return leave(_ROW_TIME)
    if column.not_null or facts.framework or facts.read_rows(column.name).values:
        return write_once({"generate": "now"}, f"{_name_orm(facts)} fills it on insert")
    return leave(_ROW_TIME)


def _decide_update(facts: Evidence, column: Column) -> Decision:
    if trigger := facts.find_trigger(column.name):
        if column.not_null and not column.has_default and not trigger.on_insert:
            return write_once({"generate": "now"}, f"later the trigger {trigger.name} sets it")
        return leave(f"the trigger {trigger.name} sets it")
    if column.not_null:
        return Decision({"generate": "now"}, "the time of each change")
    if facts.is_keyed_by_clerk:
        return Decision("updated_at")
    return (
        Decision({"generate": "now"}, "the time of each change") if _is_maintained(facts, column) else leave(_ROW_TIME)
    )


def _is_maintained(facts: Evidence, column: Column) -> bool:
    """Return whether the app sets the time at each change."""
    rows = facts.read_rows(column.name)
    return facts.framework is not None or rows.later > 0 or (rows.values > 0 and not column.has_default)


def _decide_sign_in(facts: Evidence, column: Column) -> Decision:
    if column.not_null and not column.has_default:
        sources = ["last_sign_in_at", "created_at"]
        if facts.read_rows(column.name).values:
            return write_once({"from": sources}, "the app writes it at each sign-in; this is the first value")
        return Decision({"from": sources}, "the time of the account until the first sign-in")
    is_of_app = facts.is_django_user or column.has_default or facts.read_rows(column.name).values
    return leave("the app writes it at each sign-in") if is_of_app else Decision("last_sign_in_at")


def _decide_activity(_: Evidence, column: Column) -> Decision | None:
    return leave("the app writes it itself") if column.has_default or not column.not_null else None


def _decide_number(column: Column, name: str) -> Decision | None:
    """Decide about a time that the app stores as a number. Clerk's times are milliseconds."""
    if name not in _CREATED | _UPDATED or not column.not_null or column.has_default:
        return None
    reason = "Clerk's time in milliseconds; check that the app counts milliseconds too"
    return write_once({"from": "created_at"}, reason) if name in _CREATED else Decision("updated_at", reason)


def fill_time(facts: Evidence, column: Column) -> Decision:
    """Return the rule for any other time that each row needs."""
    if {"birth", "birthday", "born", "dob", "birthdate"} & set(split_words(column.name)):
        return give_up("Clerk has no date of birth")
    if column.base not in TIME_TYPES:
        return give_up(f"no time of the type {column.type} can be guessed")
    return write_once({"generate": "now"}, f"{_name_orm(facts)} fills it; the service writes the time of the insert")


def _name_orm(facts: Evidence) -> str:
    return facts.framework or "the app"


_DECISIONS: Sequence[tuple[frozenset[str], Callable[[Evidence, Column], Decision | None]]] = (
    (_CREATED, _decide_creation),
    (_UPDATED, _decide_update),
    (_SIGN_IN, _decide_sign_in),
    (_ACTIVITY, _decide_activity),
)
