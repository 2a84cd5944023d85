"""Values of Clerk are coerce_value to the type of their column."""

from datetime import UTC, datetime
from typing import Any

import pytest

from sync_service.mapping.coercion import coerce_time, coerce_value, scrub_expression
from sync_service.mapping.fields import FieldSource
from sync_service.mapping.introspection import Column

AT = datetime(2024, 5, 28, 8, 0, 0, 123000, tzinfo=UTC)


def make_column(base: str, category: str, *, length: int | None = None, not_null: bool = False) -> Column:
    return Column("x", base, base, category, length, not_null=not_null, has_default=False, generated=False)


@pytest.mark.parametrize(
    ("base", "category", "value", "found"),
    [
        ("int8", "N", 1716883200123, 1716883200123),
        ("int4", "N", True, 1),
        ("text", "S", {"a": 1}, {"a": 1}),
        ("jsonb", "U", "text", "text"),
        ("_text", "A", "one", ["one"]),
        ("_text", "A", ["one"], ["one"]),
        ("_text", "A", None, None),
        ("bool", "B", "yes", "yes"),
    ],
)
def test_a_value_is_converted_to_its_column_s_type(base: str, category: str, value: Any, found: Any) -> None:
    assert coerce_value(value, make_column(base, category)) == (found, False)


@pytest.mark.parametrize(
    ("value", "found"),
    [(1716883200123, AT), (1716883200123.0, AT), ("2024-05-28", "2024-05-28"), (10**30, 10**30), (None, None)],
)
def test_milliseconds_become_a_time(value: Any, found: Any) -> None:
    assert coerce_time(value) == found


@pytest.mark.parametrize(
    ("value", "kept", "cut"),
    [("ábc", "ábc", False), ("áb😀d", "áb😀", True), (12345, "123", True), ([1, 2], "[1,", True), (None, None, False)],
)
def test_a_text_is_cut_to_the_column_s_characters_and_reported(value: Any, kept: Any, cut: bool) -> None:
    assert coerce_value(value, make_column("varchar", "S", length=3)) == (kept, cut)


@pytest.mark.parametrize(
    ("spec", "of", "shown"),
    [
        (FieldSource("first_name"), make_column("text", "S"), "null"),
        (FieldSource("first_name"), make_column("text", "S", not_null=True), 'left("id"::text, 255)'),
        (FieldSource("first_name"), make_column("varchar", "S", length=9, not_null=True), 'left("id"::text, 9)'),
        (
            FieldSource("primary_email", when_null="o'{clerk_id}"),
            make_column("text", "S", not_null=True),
            "replace('o''{clerk_id}', '{clerk_id}', \"id\"::text)",
        ),
        (FieldSource("$"), make_column("jsonb", "U", not_null=True), "jsonb_build_object('id', \"id\"::text)"),
        (FieldSource("public_metadata"), make_column("jsonb", "U", not_null=True), "'{}'"),
        (FieldSource("public_metadata.day"), make_column("date", "D", not_null=True), None),
    ],
)
def test_a_placeholder_of_an_anonymous_row_fits_its_column(spec: FieldSource, of: Column, shown: str | None) -> None:
    assert scrub_expression(spec, of, '"id"') == shown
