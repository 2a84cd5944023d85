"""The carry-over of a call to POST /sync: its form, its limits, and the tables and columns that it may name (pure).

No error quotes the request: the data of a visitor may be personal, and so may the keys of its objects.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, NoReturn

import msgspec
from msgspec import Meta, Raw, Struct

from sync_service.mapping.carry_over import MAX_BYTES, MAX_ROWS, CarryOverTable
from sync_service.request_errors import BadRequest
from sync_service.store.carried_rows import Row
from sync_service.sync.carry_over import CarryOver

# The answers of a form have one level or two. A deeper value is a mistake or an attack.
MAX_DEPTH = 32

# No address of a person: logs, the audit and commands show the ID.
ID_PATTERN = r"^[A-Za-z0-9_.:+/=~-]{1,255}$"

FORM = '{"id": "<your ID of the visit>", "rows": {"<name>": [{"<column>": <value>}]}}'


class CarryOverRequest(Struct, forbid_unknown_fields=True):
    """Data from before sign-up. `id` is the app's own ID of the visit; `rows` are by the names in `sync.toml`."""

    id: Annotated[str, Meta(pattern=ID_PATTERN)]
    rows: dict[str, list[dict[str, Raw]]]


class CarryOverResponse(Struct):
    """The result of the first call with this ID. A failed carry-over has written no row."""

    status: Literal["completed", "failed"]
    reason: str | None


# The OpenAPI document has the form of the request, which is decoded apart from the rest of the body.
CarryOverJson = Annotated[
    Raw, Meta(extra_json_schema=msgspec.json.schema(CarryOverRequest)["$defs"]["CarryOverRequest"])
]


def read_carry_over(given: Raw, body: bytes, tables: Sequence[CarryOverTable]) -> CarryOver | None:
    """Return the carry-over in a body, None without one. Raises `BadRequest`; then nothing of it may be written."""
    content = bytes(given)
    if content in {b"", b"null"}:
        return None
    if len(content) > MAX_BYTES:
        _refuse(f"has more than {MAX_BYTES // 1024} KiB")
    _check_values(body)
    try:
        request = _decoder.decode(content)
    except msgspec.ValidationError:
        _refuse(f"must have the form {FORM}, and its ID 1 to 255 letters, digits or .:_+/=~-")
    if not re.fullmatch(ID_PATTERN, request.id) or request.id.endswith("\n"):
        _refuse("has an ID with a line break")
    return CarryOver(request.id, tuple(_select_rows(request.rows, tables)))


def _select_rows(
    rows: dict[str, list[dict[str, Raw]]], tables: Sequence[CarryOverTable]
) -> Iterator[tuple[CarryOverTable, Sequence[Row]]]:
    """Yield the rows of each table, in the order of `sync.toml`, so that a parent may precede its children."""
    if rows.keys() - {table.name for table in tables}:
        _refuse("names a table that sync.toml does not list; each needs a section [carry_over.<name>]")
    if sum(map(len, rows.values())) > MAX_ROWS:
        _refuse(f"has more than {MAX_ROWS} rows")
    for table in tables:
        given = rows.get(table.name, [])
        if len(given) > table.most:
            _refuse("has more rows for a table than its `most` in sync.toml allows")
        if any(row.keys() - set(table.columns) for row in given):
            _refuse("has a row with a column that sync.toml does not list; `columns` of its section lists them")
        if given:
            yield table, given


def _check_values(body: bytes) -> None:
    """Refuse JSON that two readers could understand differently, and values that PostgreSQL cannot hold."""
    try:
        text = body.decode("utf-8", "surrogatepass")
        parsed = json.loads(text, object_pairs_hook=_build_object, parse_constant=_refuse_constant)
        _check_value(parsed["carry_over"], 0)
    except (ValueError, RecursionError):
        _refuse("is not valid JSON, or has numbers or nesting without bounds")


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        _refuse("stands in a body with the same key twice in one object")
    return found


def _refuse_constant(_: str) -> NoReturn:
    _refuse("contains a number that is not JSON")


def _check_value(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        _refuse(f"has values nested deeper than {MAX_DEPTH} levels")
    match value:
        case str() if _UNSTORABLE.search(value):
            _refuse("contains a NUL character or half a surrogate pair, which PostgreSQL cannot store")
        case float() if math.isinf(value):
            _refuse("contains a number without bounds")
        case dict():
            for key, item in value.items():
                _check_value(key, depth)
                _check_value(item, depth + 1)
        case list():
            for item in value:
                _check_value(item, depth + 1)


def _refuse(why: str) -> NoReturn:
    raise BadRequest(f"carry_over {why}. No row was written.")


_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_decoder = msgspec.json.Decoder(CarryOverRequest)
