"""`sync.toml`: the keys that it may contain and the errors of a wrong file."""

from datetime import timedelta

import pytest

from sync_service.errors import SettingsError
from sync_service.mapping.fields import FieldSource
from sync_service.mapping.presets import PLACEHOLDER_EMAIL, PRESETS
from sync_service.mapping.toml import parse_mapping

WHOLE_FILE = """
[users]
table = "public.users"
clerk_id = "clerk_user_id"
on_delete = "soft"
deleted_at = "deleted_at"
delete_grace = "7d"
email_conflict = "park"
link_by_verified_email = true

[users.columns]
email = "primary_email"
first_name = "first_name"
plan = "public_metadata.plan"
raw_json = "$"
source = { constant = "clerk" }
rank = 3
email_required = { from = "primary_email", when_null = "{clerk_id}@users.invalid" }
"""


ALL_SECTIONS = "[users], [organizations], [sessions], [memberships], [changes] or [carry_over.<name>]"


def read_errors(text: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as raised:
        parse_mapping(text)
    return raised.value.errors


def test_every_key_is_read() -> None:
    mapping = parse_mapping(WHOLE_FILE)
    assert (mapping.name, mapping.id_column) == ("public.users", "clerk_user_id")
    assert (mapping.on_delete, mapping.deleted_at, mapping.delete_grace) == ("soft", "deleted_at", timedelta(days=7))
    assert (mapping.email_conflict, mapping.link_by_verified_email) == ("park", True)
    assert mapping.columns == {
        "email": FieldSource("primary_email"),
        "first_name": FieldSource("first_name"),
        "plan": FieldSource("public_metadata.plan"),
        "raw_json": FieldSource("$"),
        "source": FieldSource(None, "clerk", insert_only=True),
        "rank": FieldSource(None, 3, insert_only=True),
        "email_required": FieldSource("primary_email", when_null=PLACEHOLDER_EMAIL),
    }


@pytest.mark.parametrize("text", ["", "# a comment", "[users]", "[users.columns]"])
def test_a_file_without_an_entry_is_refused(text: str) -> None:
    """A failed command left it; the default table would stand beside the app's own."""
    [error] = read_errors(text)
    assert error.startswith("has no entry; `sync-service mapping suggest`")


def test_a_file_overrides_its_preset() -> None:
    mapping = parse_mapping(
        '[users]\npreset = "integer_id"\nclerk_id = "clerk_id"\n[users.columns]\nplan = "external_id"'
    )
    assert mapping.id_column == "clerk_id"
    assert mapping.columns == {**PRESETS["integer_id"].columns, "plan": FieldSource("external_id")}


def test_a_preset_may_precede_the_table() -> None:
    assert parse_mapping('preset = "neon_auth"') == PRESETS["neon_auth"]


@pytest.mark.parametrize(
    ("written", "schema", "table"),
    [
        ("users", "public", "users"),
        ("app.users", "app", "users"),
        ('"User"', "public", "User"),
        ("public.User", "public", "User"),
        ('"my schema"."a.b"', "my schema", "a.b"),
        ('"say ""hi"""', "public", 'say "hi"'),
    ],
)
def test_the_case_of_a_table_s_name_is_kept(written: str, schema: str, table: str) -> None:
    """Prisma's `"User"` needs no second pair of quotes, and no name is folded to lower case."""
    mapping = parse_mapping(f"[users]\ntable = '{written}'")
    assert (mapping.schema, mapping.table) == (schema, table)


def test_only_an_unchanged_preset_s_table_is_created() -> None:
    assert parse_mapping('[users]\nemail_conflict = "park"').created_by
    for changed in ('table = "app.users"', 'clerk_id = "clerk_id"', 'deleted_at = "gone"'):
        assert parse_mapping(f"[users]\n{changed}").created_by is None


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("x", "is not TOML: Expected '=' after a key in a key/value pair (at end of document)"),
        ("users = 1", "users: must be a table; begin it with [users]"),
        (
            "[user]",
            f"user: unknown; all keys belong below {ALL_SECTIONS}",
        ),
        ("[users]\non_delet = 1", "users.on_delet: unknown; did you mean on_delete?"),
        ('[users]\non_delete = "keep"', "users.on_delete: is not one of cascade, soft, anonymize"),
        (
            '[users]\non_delete = "soft"',
            'users.deleted_at: not set; on_delete = "soft" needs a column to mark the row, or [users.deleted]',
        ),
        ('[users]\ndelete_grace = "1w"', "users.delete_grace: is not a duration; write 90s, 15m, 24h or 30d"),
        ("[users]\ndelete_grace = 7", "users.delete_grace: must be a text"),
        ('[users]\nlink_by_verified_email = "yes"', "users.link_by_verified_email: must be true or false"),
        ('[users]\npreset = "uuid_id"', "users.preset: is not one of text_id, integer_id, neon_auth"),
        (
            '[users]\ntable = "a.b.c"',
            'users.table: is not a table; write public.users, or "my schema"."my.table"',
        ),
        (
            '[users.columns]\nemail = "primary_email"',
            "users.clerk_id: not set; name the column that holds the Clerk ID",
        ),
        (
            '[users]\nclerk_id = "id"\n[users.columns]\nid = "id"',
            "users.columns.id: is already the column of users.clerk_id; remove it here",
        ),
        (
            '[users]\nclerk_id = "id"\n[users.columns]\nname = "frist_name"',
            "users.columns.name: Clerk's user has no frist_name; did you mean first_name?",
        ),
        (
            '[users]\nclerk_id = "id"\n[users.columns]\nname = { from = "first_name", when_nul = "" }',
            "users.columns.name.when_nul: unknown; did you mean when_null?",
        ),
        (
            '[users]\nclerk_id = "id"\n[users.columns]\nname = { when_null = "" }',
            "users.columns.name: needs one of `from`, a field of Clerk's user, `constant` and `generate`",
        ),
        (
            '[users]\nclerk_id = "id"\n[users.columns]\nname = "first name"',
            "users.columns.name: must be a field such as first_name or public_metadata.plan, or $",
        ),
        (
            '[users]\nclerk_id = "id"\n[users.columns]\nname = { from = "first_name", when_null = "{id}" }',
            "users.columns.name.when_null: only {clerk_id} may be in braces",
        ),
        (
            '[users]\nclerk_id = "id"\nlink_by_verified_email = true\n[users.columns]\nname = "first_name"',
            "users.link_by_verified_email: no column is filled from primary_email",
        ),
    ],
)
def test_an_error_names_the_key_and_the_fix(text: str, error: str) -> None:
    assert read_errors(text) == (error,)


def test_all_errors_of_a_file_are_reported_together() -> None:
    assert len(read_errors('[users]\non_delete = "x"\ntable = ""\n[users.columns]\na = ""\nb = "c d"')) == 5


@pytest.mark.parametrize(
    "field", ["birthday", "scim", "primary_email_address_id", "unsafe_metadata.theme", "new_field"]
)
def test_any_field_of_clerk_may_be_named(field: str) -> None:
    """Clerk adds fields at any time, so only a field that resembles a known one is refused, as a typing error."""
    mapping = parse_mapping(f'[users]\nclerk_id = "id"\n[users.columns]\nx = "{field}"')
    assert mapping.columns["x"].source == field
