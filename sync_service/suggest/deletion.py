"""The app's own way to delete a user: a mark in the row, or a foreign key that refuses (pure)."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sync_service.mapping.coercion import TIME_TYPES
from sync_service.mapping.introspection import Column, refers_to
from sync_service.suggest.evidence import Evidence
from sync_service.suggest.names import CATEGORIES, has_word, normalize, parse_words, split_words, strip_time_words

_TIME_NAMES = parse_words(
    "deleted deletion removed discarded erased deactivated disabled archived closed softdeleted terminated"
)
_DELETED_NAMES = parse_words("deleted isdeleted removed isremoved softdeleted")
_ACTIVE_NAMES = parse_words("active isactive enabled isenabled")
_DISABLED_NAMES = parse_words("disabled isdisabled deactivated isdeactivated inactive isinactive archived isarchived")
_DELETED_LABELS = ("deleted", "removed", "erased", "closed", "terminated", "left", "deactivated", "archived")
# These may also mean a pause. They count only where a deletion of the row is refused.
_INACTIVE_LABELS = ("inactive", "disabled")

_NOW = {"generate": "now"}


@dataclass(frozen=True, slots=True)
class Deletion:
    """The choice of `on_delete`, its reason, the marks of a deleted user, and other choices as comments.

    `alternative` are marks that the app does not use.
    """

    on_delete: str
    reason: str
    marks: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    alternative: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Mark:
    """A column that can mark a deleted user; `reason`: the rows or the schema show that the app uses it."""

    column: str
    value: Any
    reason: str | None


def decide_deletion(facts: Evidence) -> Deletion:
    """Return the way of deletion that the app uses itself, else a deletion of the row."""
    marks = list(_list_marks(facts))
    used = [mark for mark in marks if mark.reason]
    if not used and facts.refusals:
        used = marks[:1]
    if used:
        reason = used[0].reason or f"{_format_refusals(facts)}, and {used[0].column} can mark the user instead"
        remark = 'on_delete = "anonymize" sets the same mark, and also removes the personal values'
        return Deletion("soft", reason, {mark.column: mark.value for mark in used}, (remark,))
    if facts.refusals:
        return Deletion("cascade", f"waits as long as {_format_refusals(facts)}", remarks=tuple(_list_choices(facts)))
    reason = "deletes the row; foreign keys decide about the rows that refer to it"
    return Deletion("cascade", reason, alternative={mark.column: mark.value for mark in marks[:1]})


def _list_choices(facts: Evidence) -> Iterator[str]:
    tables = ", ".join(facts.refusals)
    yield f"A user with rows in {tables} cannot be deleted: the event is parked, and tried again."
    yield "Other choices, instead of the line above:"
    yield 'on_delete = "anonymize"  # keeps the row and these rows, and removes the personal values'
    yield f"ON DELETE CASCADE for the foreign keys of {tables}, if their rows may go with the user"


def _format_refusals(facts: Evidence) -> str:
    table, rule = next(iter(facts.refusals.items()))
    return f"a foreign key of {table} refuses the deletion ({rule})"


def _list_marks(facts: Evidence) -> Iterator[_Mark]:
    """Yield the columns that can mark a deleted user, those of a deletion before those of an active account."""
    # Two deleted users would have the same value in a unique column.
    columns = [c for c in facts.table.columns if not (c.generated or facts.table.is_unique_on(c.name))]
    yield from filter(None, (_judge_deletion(facts, column) for column in columns))
    yield from filter(None, (_judge_state(facts, column) for column in columns))


def _judge_deletion(facts: Evidence, column: Column) -> _Mark | None:
    """Return the mark of a column such as `deleted_at` or `is_deleted`."""
    name, rows = normalize(column.name), facts.read_rows(column.name)
    if strip_time_words(column.name) in _TIME_NAMES and column.base in TIME_TYPES and not column.not_null:
        is_used = rows.values > 0 or _is_indexed(facts, column)
        reason = f"the app marks deleted users in {column.name}" if is_used else None
        return _Mark(column.name, _NOW, reason)
    if name in _DELETED_NAMES and column.category == "B":
        is_used = rows.labels.get("true", 0) > 0 or _is_indexed(facts, column)
        reason = f"the app marks deleted users in {column.name}" if is_used else None
        return _Mark(column.name, value=True, reason=reason)
    return None


def _judge_state(facts: Evidence, column: Column) -> _Mark | None:
    """Return the mark of a column such as `is_active`, `disabled` or `status`."""
    rows = facts.read_rows(column.name)
    if column.category == "B":
        return _judge_switch(facts, column)
    if column.category == "E" or (column.category == "S" and has_word(column.name, CATEGORIES)):
        permitted = facts.list_labels(column)
        label = _find_label([*permitted, *rows.labels], _DELETED_LABELS)
        if label:
            return _Mark(column.name, label, f"{column.name} has the value {label} for deleted users")
        label = _find_label([*permitted, *rows.labels], _INACTIVE_LABELS)
        return _Mark(column.name, label, None) if label else None
    return None


def _judge_switch(facts: Evidence, column: Column) -> _Mark | None:
    name, is_off = normalize(column.name), normalize(column.name) in _DISABLED_NAMES
    if not (is_off or name in _ACTIVE_NAMES):
        return None
    reason = "Django's way is to switch an account off" if facts.is_django_user else None
    if facts.read_rows(column.name).labels.get(json.dumps(is_off)):
        reason = f"the app switches accounts off in {column.name}"
    return _Mark(column.name, value=is_off, reason=reason)


def _find_label(labels: list[str], wanted: tuple[str, ...]) -> str | None:
    """Return the label with the first of the wanted words."""
    for word in wanted:
        for label in labels:
            if word in split_words(label):
                return label
    return None


def _is_indexed(facts: Evidence, column: Column) -> bool:
    """Return whether an index serves the queries that leave deleted rows out, as gorm and discard create it."""
    return any(
        index.keys[:1] == (column.name,) or (index.predicate and refers_to(index.predicate, column.name))
        for index in facts.table.indexes
    )
