"""`doctor` on the tables of sessions, organizations and memberships."""

from pathlib import Path
from typing import Any

import asyncpg
import pytest
from msgspec import structs

from sync_service.cli.serve import check_mapping
from sync_service.doctor.family import FamilyCounts, check_family
from sync_service.errors import MappingMismatch
from sync_service.mapping.introspection import read_table
from sync_service.mapping.obstacles import MAX_UNINDEXED_BYTES
from sync_service.mapping.toml import parse_mapping
from sync_service.settings import Settings
from tests.entities.conftest import SCHEMA, TOML
from tests.findings import apply_fix, run_doctor
from tests.processes import run_here

FAMILY_CODES = {
    *("no_parent_column", "parent_column_without_index", "parent_key_type", "keep_without_end"),
    *("events_wait_for_parent", "missing_table", "missing_unique_index", "mapped_key"),
}


async def test_tables_that_fit_have_no_finding_of_their_own(database: str, db: asyncpg.Connection) -> None:
    await db.execute(SCHEMA)
    found = await run_doctor(database, TOML)
    assert not found.codes() & FAMILY_CODES
    assert not found.codes("wrong", "warning")
    assert [finding.data["section"] for finding in found.all("no_events_of_section")] == [
        *("organizations", "sessions", "memberships"),
    ]


@pytest.mark.parametrize(
    ("statement", "toml", "code"),
    [
        ("drop table team_members", (), "missing_table"),
        ("alter table teams drop constraint teams_clerk_org_id_key", (), "missing_unique_index"),
        ("alter table team_members drop column role", (), "missing_column"),
        ("alter table team_members alter person_id type uuid using gen_random_uuid()", (), "parent_key_type"),
        ("", ('team_id = "organization.key"\n', ""), "no_parent_column"),
        ("", ('ended_at = "ended_at"\n', ""), None),
        ("", ('ended_at = "ended_at"\n', "", 'expires_at = "expire_at"\n', ""), "keep_without_end"),
        ("alter table teams alter name type varchar(5)", (), None),
        ("alter table teams add slogan text not null", (), "not_null_unfilled"),
    ],
)
async def test_a_problem_is_named(
    database: str, db: asyncpg.Connection, statement: str, toml: tuple[str, ...], code: str | None
) -> None:
    await db.execute(SCHEMA)
    if "person_id" in statement:
        await db.execute("alter table team_members drop constraint team_members_person_id_fkey")
    if "team_id" in "".join(toml):
        await db.execute("alter table team_members alter team_id drop not null")
    await db.execute(statement or "select 1")
    text = TOML
    for old, new in zip(toml[::2], toml[1::2], strict=True):
        text = text.replace(old, new)
    found = await run_doctor(database, text)
    assert found.codes("wrong", "warning", "note") & (FAMILY_CODES | {"missing_column", "not_null_unfilled"}) == (
        {code} if code else set()
    )


async def test_the_printed_index_repairs_the_table(database: str, db: asyncpg.Connection) -> None:
    await db.execute(SCHEMA)
    await db.execute("alter table teams drop constraint teams_clerk_org_id_key")
    await apply_fix(db, (await run_doctor(database, TOML)).one("missing_unique_index"))
    assert not (await run_doctor(database, TOML)).codes("wrong")


@pytest.mark.parametrize(
    ("statements", "extra_bytes", "is_found"),
    [
        ("", 1, True),
        ("", 0, False),
        ("create index on user_sessions (clerk_id, note)", 1, False),
        ("create index on user_sessions (note, clerk_id)", 1, True),
        ("create index on user_sessions (clerk_id) where is_active", 1, True),
    ],
)
async def test_a_large_table_needs_an_index_for_the_deletion_of_parents(
    db: asyncpg.Connection, statements: str, extra_bytes: int, is_found: bool
) -> None:
    await db.execute(SCHEMA + statements)
    mapping = parse_mapping(TOML)
    sessions, people = await read_table(db, "public", "user_sessions"), await read_table(db, "public", "people")
    assert sessions
    assert people
    table = structs.replace(sessions, bytes=MAX_UNINDEXED_BYTES + extra_bytes)
    related = next(related for related in mapping.related if related.entity == "session")
    found = list(check_family(related, table, {"user": (mapping, people)}, FamilyCounts()))
    assert [(finding.code, finding.data["column"]) for finding in found] == (
        [("parent_column_without_index", "clerk_id")] if is_found else []
    )


async def test_rows_without_their_parent_are_counted(database: str, db: asyncpg.Connection) -> None:
    await db.execute(SCHEMA)
    await db.execute(
        "alter table user_sessions drop constraint user_sessions_user_id_fkey;"
        " alter table team_members drop constraint team_members_team_id_fkey;"
        " insert into people (id, clerk_id) values (1, 'user_1');"
        " insert into user_sessions (user_id, clerk_id, session_id)"
        " values (1, 'user_1', 'sess_1'), (1, 'user_gone', 'sess_2'), (2, 'user_1', 'sess_3'), (3, 'user_1', 'sess_4');"
        " insert into team_members (clerk_membership_id, team_id, person_id, role)"
        " values ('orgmem_1', gen_random_uuid(), 1, 'admin')"
    )
    found = await run_doctor(database, TOML)
    orphans = found.all("orphans")
    assert [(o.data["table"], o.data["references"], o.data["rows"], o.data["orphans"]) for o in orphans] == [
        ("public.user_sessions", "public.people.id", 4, 2),
        ("public.user_sessions", "public.people.clerk_id", 4, 1),
        ("public.team_members", "public.teams.id", 1, 1),
    ]
    assert "refer to an organization that is not in public.teams" in orphans[-1].what
    assert [len(await db.fetch(o.run[0])) for o in orphans] == [2, 1, 1]
    # The service deletes these rows itself, so they need no foreign key.
    assert "no_foreign_key" not in found.codes()


@pytest.mark.parametrize("soft", [False, True])
async def test_a_foreign_key_that_refuses_a_deletion_is_reported_once(
    database: str, db: asyncpg.Connection, soft: bool
) -> None:
    await db.execute(SCHEMA)
    await db.execute(
        "alter table people add deleted_at timestamptz;"
        " create table visits (session_id integer not null references user_sessions on delete set null);"
        " create table invoices (team_id uuid references teams)"
    )
    toml = TOML.replace("[users]\n", '[users]\non_delete = "soft"\ndeleted_at = "deleted_at"\n') if soft else TOML
    found = (await run_doctor(database, toml)).all("deletion_forbidden")
    names = {finding.data["table"]: finding.what.partition(" refuses the deletion of ")[2] for finding in found}
    assert len(found) == len(names)
    assert {table: what.partition(" with")[0] for table, what in names.items()} == {
        # A deleted user stays in this mapping, and an old session does not.
        "public.visits": "a session" if soft else "a user",
        "public.invoices": "an organization",
    }
    assert "[organizations.deleted]" in " ".join(step for finding in found for step in finding.do)


async def test_events_that_wait_for_long_are_counted(database: str, db: asyncpg.Connection) -> None:
    await db.execute(SCHEMA)
    await db.execute(
        "insert into clerk_sync.events (id, type, clerk_id, status, reason, waiting_for, next_attempt_at, received_at)"
        " select 'msg_' || n, 'session.created', 'sess_' || n, 'failed', 'waiting_for_user', 'user_1', now(),"
        " now() - n * interval '1 hour' from generate_series(0, 3) as n"
    )
    waiting = (await run_doctor(database, TOML)).one("events_wait_for_parent")
    assert waiting.what == (
        "3 events of [sessions] wait for more than an hour for their user; the oldest one has waited for 3 hours"
    )
    oldest_seconds = waiting.data.pop("oldest_seconds")
    assert 3 * 3600 <= oldest_seconds < 4 * 3600
    assert waiting.data == {"section": "sessions", "events": 3, "parents": ["user"]}


async def test_a_composite_key_of_both_parents_is_valid(database: str, db: asyncpg.Connection) -> None:
    await db.execute(SCHEMA)
    await db.execute("alter table team_members drop column id, add primary key (team_id, person_id)")
    assert not (await run_doctor(database, TOML)).codes("wrong")


async def test_serve_does_not_start_with_a_table_that_does_not_fit(settings: Settings, db: asyncpg.Connection) -> None:
    await db.execute(SCHEMA)
    changes: dict[str, Any] = {"mapping": parse_mapping(TOML)}
    await check_mapping(Settings(database=settings.database, **changes))
    await db.execute("alter table team_members drop column role")
    with pytest.raises(MappingMismatch):
        await check_mapping(Settings(database=settings.database, **changes))


async def test_a_backup_has_all_mapped_tables(database: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    """No foreign key connects the organizations with the users."""
    await db.execute(SCHEMA)
    (tmp_path / "sync.toml").write_text(TOML)
    done = run_here("mapping", "tables", cwd=tmp_path, DATABASE_URL=database)
    assert (done.returncode, done.stderr) == (0, "")
    names = ("documents", "people", "team_members", "teams", "user_sessions")
    assert done.stdout.split() == [f'"public"."{name}"' for name in names]
