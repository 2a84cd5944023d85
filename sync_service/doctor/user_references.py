"""Columns without a foreign key whose name refers to a user, and the users' column that they refer to (pure)."""

import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from sync_service.doctor.introspection import UnconstrainedColumn
from sync_service.mapping.introspection import Column, Table
from sync_service.mapping.table import TableMapping
from sync_service.mapping.validation import MIN_ID_LENGTH
from sync_service.suggest.names import ORGANIZATIONS, has_word, normalize, parse_words

_ROLE = "author|creator|owner|sender|recipient|receiver|member|assignee|reviewer|follower|following"
_ACTION = "(?:created|updated|deleted|invited|assigned|uploaded|approved)by"
# These patterns match a name in lower case without underscores, hyphens and spaces.
_CLERK_ID_NAME = re.compile(r"(?:\w+)?clerk(?:user)?id")
_USER_KEY_NAME = re.compile(rf"(?:{_ROLE}|{_ACTION}|from|to)?user(?:id|key|fk)|(?:{_ROLE})id|{_ACTION}(?:id)?")

# Clerk's organizations, sessions and plans have IDs too.
_OTHER_THINGS = ORGANIZATIONS | parse_words(
    "membership memberships session sessions invitation invitations product price"
)
_INTEGERS = frozenset({"int2", "int4", "int8"})


@dataclass(frozen=True, slots=True)
class UserReference:
    """A column that may refer to a user by its name.

    `candidates` are the columns of the users table with a type that fits: the key, the Clerk ID. `names_user`: the name
    has the word "user" or "clerk". `may_be_other`: its name, or its table's, is of another thing with IDs of Clerk.
    `already_referenced`: another foreign key decides when the rows of its table are deleted.
    """

    column: UnconstrainedColumn
    candidates: tuple[str, ...]
    is_clerk_id: bool
    names_user: bool
    may_be_other: bool
    already_referenced: bool


def find_user_references(
    mapping: TableMapping,
    table: Table,
    columns: Iterable[UnconstrainedColumn],
    cascading_tables: Container[tuple[str, str]] = (),
) -> Iterator[UserReference]:
    """Yield the columns with a name that refers to a user. A user's rows in `cascading_tables` are deleted too."""
    has_clerk_id = table.column(mapping.id_column) is not None
    for column in columns:
        name = normalize(column.name)
        is_clerk_id = bool(_CLERK_ID_NAME.fullmatch(name))
        if (is_clerk_id and has_clerk_id) or (not is_clerk_id and _USER_KEY_NAME.fullmatch(name)):
            yield UserReference(
                column,
                tuple(_list_candidates(mapping, table, column, is_clerk_id=is_clerk_id)),
                is_clerk_id=is_clerk_id,
                names_user=is_clerk_id or "user" in name,
                may_be_other=_may_be_other(column),
                already_referenced=column.already_referenced or (column.schema, column.table) in cascading_tables,
            )


def _may_be_other(column: UnconstrainedColumn) -> bool:
    is_in_other_table = has_word(column.table, _OTHER_THINGS) and "user" not in normalize(column.name)
    return is_in_other_table or has_word(column.name, _OTHER_THINGS)


def _list_candidates(
    mapping: TableMapping, table: Table, column: UnconstrainedColumn, *, is_clerk_id: bool
) -> Iterator[str]:
    key = table.column(table.primary_key[0]) if len(table.primary_key) == 1 else None
    clerk_id = table.column(mapping.id_column)
    if key and not is_clerk_id and can_hold(column, key):
        yield key.name
    if clerk_id and (is_clerk_id or clerk_id != key) and _is_text(clerk_id) and can_hold(column, clerk_id):
        yield clerk_id.name


def can_hold(column: UnconstrainedColumn, target: Column) -> bool:
    """Return whether the values of the column can be those of the other one."""
    if _find_type_family(target) != _find_type_family(column):
        return False
    return target.category != "S" or column.length is None or column.length >= MIN_ID_LENGTH


def _is_text(column: Column) -> bool:
    return _find_type_family(column) == "text"


def _find_type_family(column: Column | UnconstrainedColumn) -> str:
    if column.category == "S":
        return "text"
    return "integer" if column.base in _INTEGERS else column.base
