"""`doctor` on places where the service would work against the app without an error."""

from typing import Any

import pytest

from sync_service.doctor.findings import MAX_SIMILAR, Finding, group_findings
from tests.findings import add_lines, run_doctor

HEAD = '[users]\ntable = "public.people"\nclerk_id = "clerk_id"\n'
TABLE = "create table people (id serial primary key, clerk_id text unique, email text{more})"


@pytest.mark.parametrize(
    ("more", "marks", "finds"),
    [
        (", is_active boolean not null default true", "is_active = true", True),
        (", is_active boolean not null default true", "is_active = false", False),
        (", status text not null default 'active'", 'status = "active"', True),
        (", status text not null default 'active'", 'status = "gone"', False),
        (", note timestamptz, deleted_at timestamptz", 'note = { generate = "now" }', True),
        (", note timestamptz, deleted_at timestamptz", 'deleted_at = { generate = "now" }', False),
    ],
)
async def test_a_deletion_that_the_app_cannot_see(database: str, db: Any, more: str, marks: str, finds: bool) -> None:
    """A mark is invisible if new rows have its value, or if the app marks deleted users in another column."""
    await db.execute(TABLE.format(more=more))
    if "note" in marks or "deleted_at" in marks:
        await db.execute("insert into people (clerk_id, deleted_at) values ('user_1', now()), ('user_2', null)")
    found = await run_doctor(database, f'{HEAD}on_delete = "soft"\n[users.deleted]\n{marks}\n')
    assert ("invisible_deletion" in found.codes("warning")) is finds


async def test_an_enum_that_is_filled_from_clerk(database: str, db: Any) -> None:
    await db.execute("create type mood as enum ('calm', 'wild')")
    await db.execute(TABLE.format(more=", role mood not null default 'calm'"))
    found = await run_doctor(database, f'{HEAD}[users.columns]\nrole = "public_metadata.role"\n')
    assert "calm, wild" in found.one("enum_column").what
    constant = f'{HEAD}[users.columns]\nrole = {{ constant = "calm" }}\n'
    assert "enum_column" not in (await run_doctor(database, constant)).codes()


async def test_a_time_that_the_service_does_not_change(database: str, db: Any) -> None:
    await db.execute(TABLE.format(more=", updated_at timestamptz not null default now()"))
    toml = f'{HEAD}[users.columns]\nemail = "primary_email"\n'
    found = (await run_doctor(database, toml)).one("unchanged_time")
    assert "unchanged_time" not in (await run_doctor(database, add_lines(toml, found))).codes()


async def test_the_default_table_beside_the_users_table(database: str, db: Any) -> None:
    """The service would answer `applied` and write to a table that the app does not read."""
    await db.execute(TABLE.format(more=""))
    found = (await run_doctor(database)).one("second_users_table")
    assert (found.kind, found.data["other"]) == ("warning", "public.people")
    await db.execute("create table notes (user_id text references users)")
    assert "second_users_table" not in (await run_doctor(database)).codes()
    await db.execute("drop table notes; drop table people")
    assert "second_users_table" not in (await run_doctor(database)).codes()


async def test_ids_of_other_things_are_no_references_to_users(database: str, db: Any) -> None:
    """A foreign key on such a column would refuse every row of the app."""
    await db.execute(
        "create table organizations (id serial, clerk_id text, owner_id text);"
        "create table teams (clerk_team_id text, created_by text);"
        "create table plans (clerk_plan_id text, clerk_id text);"
        "insert into organizations (clerk_id, owner_id) values ('org_1', 'cus_1');"
        "insert into teams values ('org_2', 'import')"
    )
    found = await run_doctor(database)
    assert not {"no_foreign_key", "orphans", "type_mismatch"} & found.codes("wrong", "warning")


async def test_values_decide_to_which_column_a_reference_points(database: str, db: Any) -> None:
    """A text may hold the app's key or the Clerk ID."""
    await db.execute(
        "create table people (id text primary key, clerk_id text unique, email text);"
        "insert into people values ('clw0q3k9h000008l4e7xk2b1m', 'user_1', null);"
        "create table notes (user_id text); create table likes (user_id text);"
        "insert into notes values ('user_1'); insert into likes values ('clw0q3k9h000008l4e7xk2b1m')"
    )
    found = await run_doctor(database, f'{HEAD}[users.columns]\nemail = "primary_email"\n')
    points = {each.data["table"]: each.data["references"] for each in found.all("no_foreign_key")}
    assert points == {"public.notes": "public.people.clerk_id", "public.likes": "public.people.id"}


async def test_links_of_clerk_ids_are_copied_and_kept_the_same(database: str, db: Any) -> None:
    """A link that the app writes later fills the column, and a user of the service gets a link."""
    await db.execute(
        "create table people (id serial primary key, email text);"
        "create table logins (clerk_user_id text primary key, person_id integer unique references people);"
        "insert into people (email) values ('a'), ('b'), ('c');"
        "insert into logins values ('user_2abc', 1)"
    )
    toml = f'{HEAD}[users.columns]\nemail = "primary_email"\n'
    found = (await run_doctor(database, toml)).one("missing_clerk_id")
    assert "public.logins.clerk_user_id" in found.what
    for statement in found.run:
        await db.execute(statement)
    await db.execute("insert into logins values ('user_2def', 2)")
    await db.execute("insert into people (clerk_id) values ('user_2ghi')")
    assert [row["clerk_id"] for row in await db.fetch("select clerk_id from people order by id")] == [
        *("user_2abc", "user_2def", None, "user_2ghi"),
    ]
    assert await db.fetchval("select person_id from logins where clerk_user_id = 'user_2ghi'") == 4
    assert "missing_clerk_id" not in (await run_doctor(database, toml)).codes()


def make_findings(number: int) -> list[Finding]:
    return [
        Finding(code="orphans", kind="warning", what=f"public.t{at}.user_id: 1 of 2 rows", why="because")
        for at in range(number)
    ]


def test_many_similar_findings_become_one() -> None:
    few = make_findings(MAX_SIMILAR)
    assert group_findings(few) == few
    other = Finding(code="inbox", kind="note", what="x", why="y")
    [one, rest] = group_findings([*make_findings(44), other])
    assert one.what.startswith(
        "44 similar findings: public.t0.user_id, public.t1.user_id, public.t2.user_id and 41 more"
    )
    assert one.do == ()
    assert rest == other


def test_a_group_keeps_the_steps_and_hides_the_statements() -> None:
    """Each required column needs its line; a hundred statements are printed on request."""
    lines = [f"in sync.toml: c{number} = 1" for number in range(MAX_SIMILAR + 1)]
    [one] = group_findings([Finding(code="a", kind="wrong", what="x", why="y", do=(line,)) for line in lines])
    assert list(one.do) == lines
    [one] = group_findings([Finding(code="a", kind="wrong", what="x", why="y", run=("select 1",)) for _ in lines])
    assert (one.run, one.do[0].endswith("doctor --all")) == ((), True)
