"""The first import of an application with rows from before Clerk: a report first, then the links."""

import os
from pathlib import Path

import asyncpg
import pytest

from tests.clerk_stub import ClerkStub
from tests.reconcile.conftest import RunCli
from tests.world import T0, T1, make_email, make_email_fields

# Existing rows: few in each run of the tests, 50,000 in `make faults`.
ROWS = int(os.environ.get("IMPORT_ROWS", "2000"))

TOML = """
[users]
table = "people"
clerk_id = "clerk"
link_by_external_id = true
link_by_verified_email = true
[users.columns]
id = { generate = "uuid7" }
mail = "primary_email"
name = { from = "full_name", on_null = "keep" }
"""

TABLE = """
create table people (id text primary key, clerk text unique, mail text, name text, credits integer not null default 0);
create index on people (lower(mail));
"""

# Of ten rows, six have a user with their key as external ID, three a user with their email, and one has none.
BY_KEY, BY_EMAIL = 6, 9
AMBIGUOUS, UNVERIFIED, NEW = 5, 5, 10


@pytest.fixture
async def app(db: asyncpg.Connection, clerk: ClerkStub, tmp_path: Path) -> None:
    """The app's rows, and its users in Clerk."""
    (tmp_path / "sync.toml").write_text(TOML)
    await db.execute(TABLE)
    rows = [(f"key_{n}", make_email(f"row{n}")["email_address"]) for n in range(ROWS)]
    twins = [(f"twin_{n}", make_email(f"twin{n // 2}")["email_address"]) for n in range(2 * AMBIGUOUS)]
    await db.copy_records_to_table(
        "people", columns=["id", "mail", "credits"], records=[(key, mail, 7) for key, mail in rows + twins]
    )

    await db.execute("analyze people")  # as a table of three years has been

    def add_user(name: str, **data: object) -> None:
        clerk.add_user(f"user_{name}", T1, created_at=T0 + len(clerk.users) // 3, **data)

    for n in range(ROWS):
        if n % 10 < BY_KEY:
            add_user(f"key{n}", external_id=f"key_{n}")
        elif n % 10 < BY_EMAIL:
            add_user(f"email{n}", **make_email_fields(f"row{n}"))
    for n in range(AMBIGUOUS):
        add_user(f"twin{n}", **make_email_fields(f"twin{n}"))
    for n in range(UNVERIFIED):
        add_user(f"unverified{n}", **make_email_fields(f"row{10 * n + 9}", verified=False))
    for n in range(NEW - 1):
        add_user(f"new{n}", **make_email_fields(f"new{n}"))
    # The row of this email belongs to another user, who has its key.
    add_user("new_late", **make_email_fields("row0"))


@pytest.mark.usefixtures("app")
async def test_existing_rows_are_reported_and_then_linked(run_cli: RunCli, db: asyncpg.Connection) -> None:
    """No row gets a new key or loses a value of the app, and no row of another person is linked."""
    before = await db.fetch("select people, xmin::text from people order by id")
    by_key, by_email = ROWS * 6 // 10, ROWS * 3 // 10
    counts = (
        f"linked by external ID {by_key}, linked by email {by_email}, ambiguous {AMBIGUOUS}, new row {UNVERIFIED + NEW}"
    )
    dry = await run_cli("reconcile", "--dry-run")
    assert dry.returncode == 1
    assert f"missing: {by_key + by_email + AMBIGUOUS + UNVERIFIED + NEW}," in dry.stdout
    assert f"missing users by their row: {counts}\n" in dry.stdout
    assert "  user_key0  missing  linked by external ID\n" in dry.stdout
    assert "  user_email6  missing  linked by email\n" in dry.stdout
    assert await db.fetch("select people, xmin::text from people order by id") == before
    assert await db.fetchval("select count(*) from clerk_sync.identities") == 0

    done = await run_cli("reconcile")
    assert done.returncode == 0
    assert f"missing users by their row: {counts}\n" in done.stdout
    linked = await db.fetch("select id, clerk from people where credits = 7 and clerk is not null")
    assert {(row["clerk"], row["id"]) for row in linked} == {
        (f"user_key{n}" if n % 10 < BY_KEY else f"user_email{n}", f"key_{n}") for n in range(ROWS) if n % 10 < BY_EMAIL
    }
    assert await db.fetchval("select count(*) from people where credits = 7") == ROWS + 2 * AMBIGUOUS
    added = await db.fetch("select clerk from people where credits = 0")
    assert len(added) == AMBIGUOUS + UNVERIFIED + NEW
    again = await run_cli("reconcile", "--dry-run")
    assert (again.returncode, "by their row" in again.stdout) == (0, False)
