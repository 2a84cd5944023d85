"""SQL files: each is a valid statement as it stands, and its gaps are filled from the mapping."""

from pathlib import Path
from typing import Any

import asyncpg
import pytest

import sync_service
from sync_service.mapping.presets import DEFAULT
from sync_service.mapping.table import TableMapping
from sync_service.mapping.table_binding import TableBinding
from sync_service.mapping.toml import parse_mapping
from sync_service.postgres.sql import fill_gaps, quote_ident, quote_literal, read_gaps

pytestmark = pytest.mark.every_postgres

PACKAGE = Path(sync_service.__file__).parent
# Files that create a table contain several statements, which cannot be prepared; `migrate` runs them.
FILES = {
    str(file.relative_to(PACKAGE)): file.read_text()
    for file in sorted(PACKAGE.glob("*/sql/*.sql"))
    if not file.name.startswith("create_")
}


@pytest.mark.parametrize("file", FILES)
async def test_a_file_is_a_valid_statement_as_it_stands(db: asyncpg.Connection, file: str) -> None:
    await db.prepare(FILES[file])


RECORDING = """
[changes]
record = true
[users]
on_delete = "soft"
deleted = { first_name = "gone" }
"""
UPDATING_FIRST = """
[changes]
record = true
[users]
clerk_id = "id"
[users.columns]
email = { from = "primary_email", write = "insert" }
first_name = { from = "first_name", on_null = "keep" }
updated_at = { generate = "now" }
"""


@pytest.mark.parametrize(
    "mapping",
    [DEFAULT, parse_mapping(RECORDING), parse_mapping(UPDATING_FIRST)],
    ids=["default", "recording", "recording, update first"],
)
async def test_every_query_of_a_mapping_is_valid(db: asyncpg.Connection, mapping: TableMapping) -> None:
    binding = TableBinding(mapping)
    queries = await binding.ensure_bound(db)
    sources: list[Any] = [binding.lookups, queries, *queries.claims]
    texts = [getattr(source, name) for source in sources for name in source.__slots__]
    statements = [text for text in texts if isinstance(text, str)]
    assert len(statements) >= 11
    for statement in statements:
        assert "/*<" not in statement
        await db.prepare(statement)


def test_a_gap_is_replaced_with_its_default_and_its_marks() -> None:
    sql = "select * from /*<table>*/public.users/*</table>*/ where /*<id_column>*/id/*</id_column>*/ = $1"
    assert read_gaps(sql) == {"table": "public.users", "id_column": "id"}
    assert fill_gaps(sql, {"table": "app.people", "id_column": "uid"}) == "select * from app.people where uid = $1"


def test_a_gap_without_a_text_is_an_error() -> None:
    with pytest.raises(KeyError, match="table"):
        fill_gaps("select * from /*<table>*/public.users/*</table>*/", {})


def test_quotes_in_names_and_texts_are_doubled() -> None:
    assert quote_ident('a"b') == '"a""b"'
    assert quote_literal("a'b") == "'a''b'"
