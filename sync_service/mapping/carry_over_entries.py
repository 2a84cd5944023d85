"""The tables below `[carry_over]` in `sync.toml` → their mappings, or the errors of the entries (pure)."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sync_service.mapping.carry_over import MAX_ROWS, CarryOverTable
from sync_service.mapping.column_entries import suggest_word
from sync_service.mapping.table_names import parse_table_name, strip_quotes

_KEYS = ("table", "user", "clerk_id", "columns", "most")

# The service's own tables; a row there could change the state of any user.
_OWN_SCHEMA = "clerk_sync"

# Columns with these names refer to a user, with or without a foreign key: user_id, userId, clerk_user_id, owner_id.
_OWNER = re.compile(r"(?:clerk|user|owner)+id")


def read_carry_over_tables(given: Mapping[str, Any], errors: list[str]) -> tuple[CarryOverTable, ...]:
    """Return the tables in the order of the file, without those that have an error."""
    tables = (_read_table(name, entry, errors) for name, entry in given.items())
    return tuple(table for table in tables if table is not None)


def _read_table(name: str, entry: Any, errors: list[str]) -> CarryOverTable | None:
    place = f"carry_over.{name}"
    if not isinstance(entry, Mapping):
        errors.append(f"{place}: must be a table; begin it with [{place}]")
        return None
    found = [f"{place}.{key}: unknown{suggest_word(key, _KEYS)}" for key in entry if key not in _KEYS]
    if "table" not in entry:
        found.append(f"{place}.table: not set; name the table that gets the rows")
    if "columns" not in entry:
        found.append(f"{place}.columns: not set; list the columns that a visitor may fill")
    if not {"user", "clerk_id"} & entry.keys():
        found.append(f"{place}.user: not set; name the column that gets the user's own key, or clerk_id")
    fields: dict[str, Any] = {}
    for key in entry.keys() & _READERS.keys():
        try:
            fields |= _READERS[key](entry[key])
        except ValueError as error:
            found.append(f"{place}.{key}: {error}")
    errors += found
    return None if found else CarryOverTable(name=name, **fields)


def _read_text(given: Any) -> str:
    if not isinstance(given, str) or not given:
        raise ValueError("must be a text")
    return given


def _read_table_name(given: Any) -> dict[str, Any]:
    schema, table = parse_table_name(_read_text(given))
    return {"schema": schema, "table": table}


def _read_columns(given: Any) -> dict[str, Any]:
    if not isinstance(given, list) or not given or not all(isinstance(name, str) and name for name in given):
        raise ValueError('must be a list of columns, ["first_name", "age"]')
    columns = tuple(map(strip_quotes, given))
    if len(set(columns)) < len(columns):
        raise ValueError("lists a column twice")
    return {"columns": columns}


def _read_most(given: Any) -> dict[str, Any]:
    if type(given) is not int or not 1 <= given <= MAX_ROWS:
        raise ValueError(f"must be a number from 1 to {MAX_ROWS}")
    return {"most": given}


_READERS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "table": _read_table_name,
    "user": lambda given: {"user": strip_quotes(_read_text(given))},
    "clerk_id": lambda given: {"clerk_id": strip_quotes(_read_text(given))},
    "columns": _read_columns,
    "most": _read_most,
}


def find_unsafe_tables(
    tables: Sequence[CarryOverTable], sections: Mapping[tuple[str, str], str], id_column: str
) -> Iterator[str]:
    """Yield the errors that would let a visitor name another user, or write a row that only the service writes.

    `sections` has the tables that show Clerk's objects, by schema and name.
    """
    for table in tables:
        place = f"carry_over.{table.name}"
        if section := sections.get((table.schema, table.table)):
            yield f"{place}.table: is the table of [{section}], which only the service fills; name another one"
        if table.schema == _OWN_SCHEMA:
            yield f"{place}.table: is in the schema {_OWN_SCHEMA}, which only the service writes; name another one"
        if table.user is not None and table.user == table.clerk_id:
            yield f"{place}.clerk_id: is already the column of {place}.user; remove one of them"
        for column in table.columns:
            if column in table.owner_columns:
                yield f"{place}.columns: {column} is filled by the service; remove it from the list"
            elif _refers_to_user(column, id_column):
                yield f"{place}.columns: {column} names a user, and a visitor could name another one; remove it"


def _refers_to_user(column: str, id_column: str) -> bool:
    is_clerk_id = column == id_column and id_column != "id"
    return is_clerk_id or bool(_OWNER.fullmatch(column.replace("_", "").lower()))
