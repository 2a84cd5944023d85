"""Entries of `[users.columns]` and `[users.deleted]`: the forms, their values, and the errors of wrong combinations."""

from typing import Any

import pytest

from sync_service.clerk.change import Snapshot
from sync_service.clerk.events import parse_event
from sync_service.errors import SettingsError
from sync_service.mapping.fields import FieldSource
from sync_service.mapping.paths import Selector, parse_path
from sync_service.mapping.table import TableMapping
from sync_service.mapping.toml import parse_mapping
from tests.world import T1, encode_body, make_event

ACCOUNTS = [
    {"provider": "oauth_google", "username": "ada-g", "verification": {"status": "unverified"}},
    {"provider": "oauth_github", "username": "", "verification": {"status": "verified"}},
    {"provider": "oauth_github", "username": "second"},
]


def parse(*lines: str) -> TableMapping:
    return parse_mapping('[users]\nclerk_id = "clerk_id"\n[users.columns]\n' + "\n".join(lines))


def read_errors(*lines: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as raised:
        parse(*lines)
    return raised.value.errors


def read_value(entry: str, **data: Any) -> Any:
    mapping = parse(f"x = {entry}")
    change = parse_event("msg_1", encode_body(make_event("user.updated", "user_1", T1, **data))).change
    assert isinstance(change, Snapshot)
    return mapping.build_row(change)["x"]


@pytest.mark.parametrize(
    ("entry", "source"),
    [
        ("false", FieldSource(None, False, insert_only=True)),
        ("5", FieldSource(None, 5, insert_only=True)),
        ("{ constant = false }", FieldSource(None, False, insert_only=True)),
        ('{ constant = "x", write = "insert" }', FieldSource(None, "x", insert_only=True)),
        ('{ constant = false, write = "always" }', FieldSource(None, False)),
        ('{ constant = ["a"] }', FieldSource(None, ["a"], insert_only=True)),
        ('{ from = "first_name", write = "insert" }', FieldSource("first_name", insert_only=True)),
        ('{ from = "first_name", write = "always" }', FieldSource("first_name")),
        ('{ from = "first_name", on_null = "keep" }', FieldSource("first_name", keep_on_null=True)),
        ('{ from = ["username", "email_local_part"] }', FieldSource("username", fallbacks=("email_local_part",))),
        ('{ from = "status", equals = "active" }', FieldSource("status", equals="active")),
        ('{ generate = "cuid2" }', FieldSource(None, generate="cuid2", insert_only=True)),
        ('{ generate = "now" }', FieldSource(None, generate="now")),
        ('{ generate = "now", write = "insert" }', FieldSource(None, generate="now", insert_only=True)),
    ],
)
def test_each_form_is_read(entry: str, source: FieldSource) -> None:
    """A constant is written on insert only, unless the entry says `always`: it must not remove rights later."""
    assert parse(f"x = {entry}").columns["x"] == source


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ('["a", "b"]', ": a list alone is ambiguous; write { from = [...] } or { constant = [...] }"),
        ("{ from = [] }", ": the list of `from` is empty; name at least one field"),
        ('{ from = "a", constant = 1 }', ": needs one of `from`, a field of Clerk's user, `constant` and `generate`"),
        ('{ from = "first_name", write = "never" }', ".write: is not insert or always"),
        ('{ from = "first_name", on_null = "default" }', ".on_null: is not keep"),
        (
            '{ from = "status", equals = "a", on_null = "keep" }',
            ": equals gives true or false, never null; remove when_null and on_null",
        ),
        ('{ from = "status", equals = ["a"] }', ".equals: must be a text, a number, true or false"),
        ("{ constant = 1, when_null = 2 }", ".when_null: belongs to `from` only; remove it"),
        ('{ generate = "now", equals = 1 }', ".equals: belongs to `from` only; remove it"),
        (
            '{ generate = "cuid3" }',
            (
                ".generate: is not one of uuid4, uuid7, ulid, cuid, cuid2, nanoid, now, nor one with a prefix such as"
                ' "usr_{nanoid}"'
            ),
        ),
        ('{ generate = "cuid2(9)" }', ".generate: only nanoid takes a length, from 2 to 255"),
        ('{ generate = "nanoid(1)" }', ".generate: only nanoid takes a length, from 2 to 255"),
        (
            '{ generate = "uuid4", write = "always" }',
            ": a generated value is written on insert only; an existing row never gets another one",
        ),
        ('"accounts[provider].x"', ": must be a field such as first_name or public_metadata.plan, or $"),
        ('"[provider=x].y"', ": must be a field such as first_name or public_metadata.plan, or $"),
        ('{ from = ["username", "frist_name"] }', ": Clerk's user has no frist_name; did you mean first_name?"),
    ],
)
def test_a_wrong_entry_is_refused_with_the_correction(entry: str, error: str) -> None:
    assert read_errors(f"x = {entry}") == (f"users.columns.x{error}",)


def test_a_right_is_not_mapped_from_a_list_with_unsafe_metadata() -> None:
    [error] = read_errors('role = { from = ["public_metadata.role", "unsafe_metadata.role"] }')
    assert "users write their unsafe_metadata themselves" in error


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ('"external_accounts[provider=oauth_google].username"', "ada-g"),
        ("'external_accounts[provider=\"oauth_google\"].username'", "ada-g"),
        ('"external_accounts[verification.status=unverified].username"', "ada-g"),
        # The first element counts, and "" of Clerk is null.
        ('"external_accounts[provider=oauth_github].username"', None),
        ('"external_accounts[provider=oauth_x].username"', None),
        ('"public_metadata.teams[name=A.1 = b].size"', 3),
        ('"public_metadata.teams[size=4].name"', "B"),
        ('"public_metadata.teams[open=true].name"', "B"),
        ('"public_metadata.note"', ""),
        ('{ from = ["username", "email_local_part"] }', "ada"),
        ('{ from = ["public_metadata.zero", "username"] }', 0),
        ('{ from = ["username", "external_id"], when_null = "{clerk_id}!" }', "user_1!"),
        ('{ from = "status", equals = "active" }', True),
        ('{ from = "public_metadata.plan", equals = "pro" }', False),
        ('{ from = "public_metadata.one", equals = true }', False),
    ],
)
def test_a_form_has_its_value(entry: str, value: Any) -> None:
    email = {"id": "idn_1", "email_address": "ada@example.com", "verification": None}
    found = read_value(
        entry,
        status="active",
        email_addresses=[email],
        primary_email_address_id="idn_1",
        external_accounts=ACCOUNTS,
        public_metadata={
            "teams": [{"name": "A.1 = b", "size": 3}, {"name": "B", "size": 4, "open": True}],
            "note": "",
            "zero": 0,
            "one": 1,
        },
    )
    assert (found, type(found)) == (value, type(value))


def test_a_path_is_a_list_of_steps() -> None:
    path = "external_accounts[provider=a.b[c].0.username"
    assert parse_path(path) == ("external_accounts", Selector(("provider",), "a.b[c"), "0", "username")


def test_a_key_is_generated_for_each_row() -> None:
    mapping = parse('x = { generate = "usr_{nanoid(8)}" }', 'y = { generate = "now" }')
    change = parse_event("msg_1", encode_body(make_event("user.updated", "user_1", T1))).change
    assert isinstance(change, Snapshot)
    rows = [mapping.build_row(change) for _ in range(2)]
    assert rows[0]["x"] != rows[1]["x"]
    assert [*rows[0]] == ["clerk_id", "x"], "PostgreSQL supplies the time"
    assert mapping.compute_version(change) == mapping.compute_version(change)


DELETED = (
    '[users]\nclerk_id = "clerk_id"\non_delete = "soft"\n[users.columns]\nemail = "primary_email"\n[users.deleted]\n'
)


def test_marks_of_a_deletion_are_read() -> None:
    mapping = parse_mapping(f'{DELETED}is_active = false\nstatus = "deleted"\ngone = {{ generate = "now" }}')
    assert mapping.deletion_marks == {
        "is_active": FieldSource(None, False),
        "status": FieldSource(None, "deleted"),
        "gone": FieldSource(None, generate="now"),
    }
    short = '[users]\non_delete = "soft"\ndeleted_at = "gone"\n'
    for text in (short, f'{short}[users.deleted]\ngone = {{ generate = "now" }}'):
        assert parse_mapping(text).deletion_marks == {"gone": FieldSource(None, generate="now")}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            f'{DELETED}clerk_id = "x"',
            "users.deleted.clerk_id: is the column of users.clerk_id, which every event needs; remove it here",
        ),
        (
            f'{DELETED}email = "x"',
            "users.deleted.email: a deletion releases a value of primary_email by itself; remove it here",
        ),
        (
            f'{DELETED}gone = {{ generate = "uuid4" }}',
            'users.deleted.gone: must be a value, or { generate = "now" }',
        ),
        (
            '[users]\non_delete = "soft"\ndeleted_at = "gone"\n[users.deleted]\ngone = "x"',
            "users.deleted.gone: is already the column of users.deleted_at; remove one of them",
        ),
    ],
)
def test_a_wrong_mark_is_refused_with_the_correction(text: str, error: str) -> None:
    with pytest.raises(SettingsError) as raised:
        parse_mapping(text)
    assert error in raised.value.errors
