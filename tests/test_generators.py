"""Generated keys have the formats of the libraries for JavaScript, and fit their columns."""

import re
import time
from pathlib import Path
from uuid import UUID

import pytest

import sync_service
from sync_service.mapping.fields import FieldSource
from sync_service.mapping.fixed_values import find_misfit
from sync_service.mapping.generators import (
    GENERATORS,
    generate_cuid,
    generate_nanoid,
    generate_uuid7,
    parse_key_format,
)
from sync_service.mapping.introspection import Column

# The formats that the libraries for JavaScript check or document.
FORMATS = {
    "uuid4": r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "uuid7": r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "ulid": r"[0-7][0-9A-HJKMNP-TV-Z]{25}",
    "cuid": r"c[0-9a-z]{24}",
    "cuid2": r"[a-z][0-9a-z]{23}",
    "nanoid": r"[A-Za-z0-9_-]{21}",
    "nanoid(12)": r"[A-Za-z0-9_-]{12}",
    "usr_{nanoid}": r"usr_[A-Za-z0-9_-]{21}",
    "{ulid}-user": r"[0-7][0-9A-HJKMNP-TV-Z]{25}-user",
}


@pytest.mark.parametrize("generator", FORMATS)
def test_keys_have_their_format_and_differ(generator: str) -> None:
    key_format = parse_key_format(generator)
    generate = key_format.make_generator()
    keys = {generate() for _ in range(500)}
    assert len(keys) == 500
    for key in keys:
        assert re.fullmatch(FORMATS[generator], key), key
        assert len(key) == key_format.length


def test_the_documentation_shows_each_generator() -> None:
    page = (Path(sync_service.__file__).parent / "docs" / "mapping.md").read_text()
    section = page.partition("### Generated keys")[2].partition("\n### ")[0]
    examples = dict(re.findall(r"^\| `(\w+)`(?:, `[^`]+`)? \| `([^`]+)`", section, re.MULTILINE))
    assert [*examples] == [name for name in GENERATORS if name != "now"]
    for name, example in examples.items():
        assert re.fullmatch(FORMATS[name], example), name


def test_keys_with_a_time_are_sorted_by_it() -> None:
    """UUID version 7, ULID and CUID version 1 begin with the milliseconds."""
    before = time.time_ns() // 1_000_000
    uuid, cuid, ulid = generate_uuid7(), generate_cuid(), parse_key_format("ulid").make_generator()()
    after = time.time_ns() // 1_000_000
    assert before <= UUID(uuid).int >> 80 <= after
    assert before <= int(cuid[1:9], 36) <= after
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    assert before <= sum(alphabet.index(letter) * 32 ** (9 - n) for n, letter in enumerate(ulid[:10])) <= after


def test_a_cuid_has_a_counter_and_the_process() -> None:
    first, second = generate_cuid(), generate_cuid()
    assert (int(second[9:13], 36) - int(first[9:13], 36)) % 36**4 == 1
    assert first[13:17] == second[13:17]


def test_each_letter_of_a_nanoid_is_used() -> None:
    assert len({*"".join(generate_nanoid() for _ in range(500))}) == 64


def make_column(type_: str, category: str, length: int | None = None, labels: tuple[str, ...] = ()) -> Column:
    return Column("x", type_, type_, category, length, False, False, False, labels=labels)


TEXT, UUID_COLUMN = make_column("text", "S"), make_column("uuid", "U")
BOOLEAN, INTEGER = make_column("bool", "B"), make_column("int4", "N")
TIME, ENUM = make_column("timestamptz", "D"), make_column("plan", "E", labels=("free", "pro"))


@pytest.mark.parametrize(
    ("field", "column", "misfit"),
    [
        (FieldSource(None, generate="cuid"), TEXT, None),
        (FieldSource(None, generate="uuid7"), UUID_COLUMN, None),
        (FieldSource(None, generate="ulid"), UUID_COLUMN, "is uuid, and ulid gives no uuid; use uuid4 or uuid7"),
        (
            FieldSource(None, generate="u{uuid4}"),
            UUID_COLUMN,
            "is uuid, and u{uuid4} gives no uuid; use uuid4 or uuid7",
        ),
        (FieldSource(None, generate="nanoid"), INTEGER, "is int4, and nanoid gives a text"),
        (FieldSource(None, generate="cuid"), make_column("varchar", "S", 25), None),
        (
            FieldSource(None, generate="usr_{cuid}"),
            make_column("varchar", "S", 25),
            "is varchar, and usr_{cuid} gives 29 characters",
        ),
        (FieldSource(None, generate="now"), TIME, None),
        (FieldSource(None, generate="now"), TEXT, 'is text, and `generate = "now"` needs a time'),
        (FieldSource(None, "pro"), ENUM, None),
        (FieldSource(None, "gold"), ENUM, "is plan, which has no label 'gold'; its labels are free, pro"),
        (FieldSource(None, False), BOOLEAN, None),
        (FieldSource(None, "no"), BOOLEAN, "is bool, and cannot hold the constant 'no'"),
        (FieldSource(None, "x"), INTEGER, "is int4, and cannot hold the constant 'x'"),
        (FieldSource(None, 5), INTEGER, None),
        (FieldSource(None, "x"), UUID_COLUMN, "is uuid, and cannot hold the constant 'x'"),
        (FieldSource(None, "2024-05-28"), TIME, None),
        (FieldSource(None, "soon"), TIME, "is timestamptz, and cannot hold the constant 'soon'"),
        (FieldSource(None, True), TIME, "is timestamptz, and cannot hold the constant True"),
        (FieldSource(None, "abcd"), make_column("varchar", "S", 3), "is varchar, and the constant has 4 characters"),
        (FieldSource("status", equals="a"), TIME, "is timestamptz, and `equals` gives true or false"),
        (FieldSource("first_name"), INTEGER, None),
        (FieldSource("first_name", when_null=""), TEXT, None),
        (FieldSource("first_name", when_null="gold"), ENUM, "is plan, and cannot hold the `when_null` 'gold'"),
        (FieldSource("created_at", when_null=""), TIME, "is timestamptz, and cannot hold the `when_null` ''"),
    ],
)
def test_a_value_of_the_mapping_fits_its_column_or_the_message_says_why(
    field: FieldSource, column: Column, misfit: str | None
) -> None:
    assert find_misfit(field, column) == misfit
