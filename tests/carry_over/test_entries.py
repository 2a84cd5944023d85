"""`[carry_over.<name>]` in `sync.toml`: its keys, and the errors of a wrong or unsafe entry."""

import pytest

from sync_service.errors import SettingsError
from sync_service.mapping.carry_over import CarryOverTable
from sync_service.mapping.toml import parse_mapping

USERS = '[users]\npreset = "integer_id"\nclerk_id = "clerk_ref"\n'


def make_entry(**changes: str | None) -> str:
    """Return a file with one entry; a change to None removes a key."""
    usual: dict[str, str | None] = {"table": '"public.visits"', "user": '"user_id"', "columns": '["age"]'}
    keys = usual | changes
    return USERS + "[carry_over.visits]\n" + "\n".join(f"{key} = {text}" for key, text in keys.items() if text)


def test_every_key_is_read_in_the_order_of_the_file() -> None:
    mapping = parse_mapping(
        make_entry(table='"Visits"', clerk_id='"clerk_id"', columns='["age", "\\"Rating\\""]', most="3")
        + '\n[carry_over.answers]\ntable = "app.answers"\nclerk_id = "clerk_id"\ncolumns = ["question"]'
    )
    assert mapping.carry_over == (
        CarryOverTable(
            name="visits",
            schema="public",
            table="Visits",
            user="user_id",
            clerk_id="clerk_id",
            columns=("age", "Rating"),
            most=3,
        ),
        CarryOverTable(name="answers", schema="app", table="answers", clerk_id="clerk_id", columns=("question",)),
    )


def test_a_file_with_only_a_carry_over_keeps_the_default_users_table() -> None:
    mapping = parse_mapping('[carry_over.a]\ntable = "a"\nuser = "user_id"\ncolumns = ["b"]')
    assert (mapping.name, mapping.created_by) == ("public.users", "create_users.sql")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"table": None}, ".table: not set; name the table that gets the rows"),
        ({"columns": None}, ".columns: not set; list the columns that a visitor may fill"),
        ({"user": None}, ".user: not set; name the column that gets the user's own key, or clerk_id"),
        ({"table": "7"}, ".table: must be a text"),
        ({"table": '"a.b.c"'}, '.table: is not a table; write public.users, or "my schema"."my.table"'),
        ({"columns": '"age"'}, '.columns: must be a list of columns, ["first_name", "age"]'),
        ({"columns": "[]"}, '.columns: must be a list of columns, ["first_name", "age"]'),
        ({"columns": "[7]"}, '.columns: must be a list of columns, ["first_name", "age"]'),
        ({"columns": '["age", "age"]'}, ".columns: lists a column twice"),
        ({"most": "0"}, ".most: must be a number from 1 to 100"),
        ({"most": "101"}, ".most: must be a number from 1 to 100"),
        ({"most": "true"}, ".most: must be a number from 1 to 100"),
        ({"collumns": '["a"]'}, ".collumns: unknown; did you mean columns?"),
        ({"table": '"users"'}, ".table: is the table of [users], which only the service fills; name another one"),
        (
            {"table": '"clerk_sync.identities"'},
            ".table: is in the schema clerk_sync, which only the service writes; name another one",
        ),
        ({"clerk_id": '"user_id"'}, ".clerk_id: is already the column of carry_over.visits.user; remove one of them"),
        (
            {"columns": '["age", "user_id"]'},
            ".columns: user_id is filled by the service; remove it from the list",
        ),
        *(
            (
                {"user": '"owner"', "columns": f'["{name}"]'},
                f".columns: {name} names a user, and a visitor could name another one; remove it",
            )
            for name in ("user_id", "userId", "clerk_id", "clerkUserId", "owner_id", "clerk_ref")
        ),
    ],
)
def test_a_wrong_or_unsafe_entry_is_an_error(changes: dict[str, str | None], error: str) -> None:
    with pytest.raises(SettingsError) as raised:
        parse_mapping(make_entry(**changes))
    assert raised.value.errors == (f"carry_over.visits{error}",)


def test_a_visitor_cannot_write_sessions() -> None:
    sessions = '[sessions]\ntable = "user_sessions"\nsession_id = "session_id"\n[sessions.columns]\ncity = "status"\n'
    with pytest.raises(SettingsError) as raised:
        parse_mapping(make_entry(table='"user_sessions"') + "\n" + sessions)
    error = "carry_over.visits.table: is the table of [sessions], which only the service fills; name another one"
    assert raised.value.errors == (error,)


@pytest.mark.parametrize("text", ["carry_over = 7", "[carry_over]\nvisits = 7"])
def test_an_entry_must_be_a_table(text: str) -> None:
    with pytest.raises(SettingsError, match="must be a table; begin it with"):
        parse_mapping(text)
