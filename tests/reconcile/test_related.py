"""Runs over organizations and memberships, after the users."""

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sync_service.clerk import related_walk
from sync_service.clerk.events import parse_event
from sync_service.cli import reconcile_progress
from sync_service.cli.reconcile_report import list_problems
from sync_service.mapping.toml import parse_mapping
from sync_service.postgres.pool import Database
from sync_service.store.access import Store
from sync_service.sync.apply import Applier
from sync_service.sync.drift_report import Report
from sync_service.sync.reconcile import Reconciler
from tests.clerk_stub import ClerkStub, make_error
from tests.conftest import Output
from tests.entities.conftest import (
    SCHEMA,
    TOML,
    make_membership_event,
    make_organization_event,
    make_session_event,
    read_rows,
)
from tests.entities.test_property import Clerk as History
from tests.entities.test_property import read_state as read_tables
from tests.reconcile.conftest import Reconcile, RunCli
from tests.world import T0, T2, encode_body, make_event, make_message_id

HISTORIES = int(os.environ.get("HISTORIES", "30")) // 15

MAPPING = parse_mapping(TOML)

STATE = """
select people.clerk_id, clerk_org_id, name, clerk_membership_id, role
from people
left join team_members on person_id = people.id
full join teams on teams.id = team_id
order by clerk_org_id, people.clerk_id
"""


@pytest.fixture(autouse=True)
async def _tables(db: asyncpg.Connection) -> None:
    await db.execute(SCHEMA)


def fill(clerk: ClerkStub, users: int = 3) -> None:
    """Add some users, two organizations, and a membership of each user in the first one."""
    for n in range(users):
        clerk.add_user(f"user_{n}")
        clerk.add_membership(f"orgmem_{n}", "org_0", f"user_{n}", created_at=T0 + n)
    for n in range(2):
        clerk.add_organization(f"org_{n}", name=f"Team {n}", created_at=T0 + n)


async def read_state(db: asyncpg.Connection) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await db.fetch(STATE)]


EXPECTED = [
    *((f"user_{n}", "org_0", "Team 0", f"orgmem_{n}", "org:admin") for n in range(3)),
    (None, "org_1", "Team 1", None, None),
]


async def test_a_run_imports_and_repairs_them(reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection) -> None:
    fill(clerk)
    planned = await reconcile(mapping=MAPPING, dry_run=True)
    assert (planned.missing, planned.repaired, await read_state(db)) == (8, 0, [])
    report = await reconcile(mapping=MAPPING)
    assert (report.users, report.related) == (3, {"organizations": 2, "memberships": 3})
    assert (report.missing, report.repaired, report.is_clean) == (8, 8, True)
    assert await read_state(db) == EXPECTED
    again = await reconcile(mapping=MAPPING, dry_run=True)
    assert (again.drift, again.is_clean) == (0, True)

    await db.execute("update teams set name = 'mine', slug = null where clerk_org_id = 'org_0'")
    await db.execute("update team_members set role = 'mine' where clerk_membership_id = 'orgmem_0'")
    await db.execute("delete from team_members where clerk_membership_id = 'orgmem_1'")
    clerk.add_membership("orgmem_2", "org_0", "user_2", T2, role="org:member")
    found = await reconcile(mapping=MAPPING, dry_run=True, shows_values=True)
    assert (found.missing, found.stale, found.differing) == (1, 1, 2)
    assert found.columns == {"organizations.name": 1, "organizations.slug": 1, "memberships.role": 2}
    assert {one.clerk_id: one.values for one in found.examples}["orgmem_0"] == {"role": ("mine", "org:admin")}
    report = await reconcile(mapping=MAPPING)
    assert (report.repaired, report.is_clean) == (4, True)
    assert await read_state(db) == [*EXPECTED[:2], (*EXPECTED[2][:4], "org:member"), EXPECTED[3]]
    recorded = await db.fetchrow("select * from clerk_sync.reconciles order by id desc limit 1")
    assert recorded
    assert (recorded["users"], recorded["missing"], recorded["differing"], recorded["repaired"]) == (3, 1, 2, 4)


async def test_the_number_of_members_is_known(reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection) -> None:
    """Clerk's events have it, and its lists only on request."""
    fill(clerk)
    await db.execute("alter table teams add members integer")
    mapping = parse_mapping(TOML.replace('name = "name"', 'name = "name"\nmembers = "members_count"'))
    assert (await reconcile(mapping=mapping)).is_clean
    assert [row[0] for row in await db.fetch("select members from teams order by clerk_org_id")] == [3, 0]


async def test_the_command_names_each_kind_of_object(
    run_cli: RunCli, clerk: ClerkStub, db: asyncpg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile_progress, "LOG_INTERVAL", 0)
    (tmp_path / "sync.toml").write_text(TOML)
    fill(clerk)
    done = await run_cli("reconcile", "--json")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    progress = [(line["users"], line.get("memberships")) for line in lines if line["event"] == "reconciling"]
    assert progress[-1] == (3, 3)
    found = json.loads(done.stdout)
    assert (done.returncode, found["users"], found["missing"], found["repaired"]) == (0, 3, 8, 8)
    await db.execute("delete from team_members")
    dry = await run_cli("reconcile", "--dry-run")
    assert "3 users, 2 organizations, 3 memberships compared" in dry.stdout
    assert "users and other objects:\n  orgmem_0  missing\n" in dry.stdout
    many = Report(refused_deletions={"memberships": 12}, unlisted={"organizations": 2})
    deletions, unlisted = list_problems(many)
    assert deletions.startswith("12 memberships are no longer in Clerk. That is more than 5 % of all memberships")
    assert unlisted.startswith("Clerk counts 2 organizations more than its lists have shown.")


async def test_a_comparison_locks_and_writes_nothing(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    """A lock on a parent would write to its row."""
    fill(clerk)
    await reconcile(mapping=MAPPING)
    before = await db.fetch("select ctid, xmin, xmax, clerk_id from people")
    report = await reconcile(mapping=MAPPING)
    assert (report.drift, report.is_clean) == (0, True)
    assert await db.fetch("select ctid, xmin, xmax, clerk_id from people") == before


async def test_what_clerk_no_longer_has_is_deleted(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    """An organization takes its memberships with it. Clerk confirms each deletion by a second request."""
    fill(clerk)
    clerk.add_membership("orgmem_9", "org_1", "user_0")
    await reconcile(mapping=MAPPING)
    del clerk.organizations["org_1"], clerk.memberships["orgmem_9"], clerk.memberships["orgmem_1"]
    clerk.requests.clear()
    report = await reconcile(mapping=MAPPING)
    assert (report.deleted, report.repaired, report.is_clean) == (2, 2, True)
    assert await read_state(db) == [EXPECTED[0], EXPECTED[2], ("user_1", None, None, None, None)]
    paths = [path for _, path in clerk.requests]
    assert (paths.count("/v1/organizations"), paths.count("/v1/organization_memberships")) == (2, 2)
    events = await db.fetch(
        "select id from clerk_sync.events where type = 'organizationMembership.deleted' order by id"
    )
    assert [event["id"] for event in events] == ["parent_deleted_orgmem_9", "reconcile_orgmem_1"]


async def test_what_a_list_only_skips_is_not_deleted(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    fill(clerk)
    await reconcile(mapping=MAPPING)

    def skip(request: Request) -> Response | None:
        is_first = request.query_params.get("order_by") == "created_at"
        objects = {"/v1/organizations": clerk.organizations, "/v1/organization_memberships": clerk.memberships}
        listed = [*objects.get(request.url.path, {}).values()]
        return JSONResponse({"data": listed[1:], "total_count": len(listed)}) if is_first and listed else None

    clerk.answer_list = skip
    report = await reconcile(mapping=MAPPING)
    assert (report.deleted, report.unlisted) == (0, {})
    assert report.related == {"organizations": 2, "memberships": 3}
    assert await read_state(db) == EXPECTED


@pytest.mark.parametrize("kind", ["organizations", "memberships"])
async def test_a_mass_deletion_needs_the_permission(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection, kind: str
) -> None:
    """The limit holds for each kind of object by itself."""
    fill(clerk, users=12)
    for n in range(2, 12):
        clerk.add_organization(f"org_{n}")
    await reconcile(mapping=MAPPING)
    getattr(clerk, kind).clear()
    report = await reconcile(mapping=MAPPING)
    assert (report.refused_deletions, report.refused, report.is_clean) == ({kind: 12}, 12, False)
    assert await db.fetchval("select count(*) from team_members") == 12
    assert await db.fetchval("select count(*) from teams") == 12
    report = await reconcile(mapping=MAPPING, allow_mass_delete=True)
    assert report.deleted == 12
    assert await db.fetchval("select count(*) from team_members") == 0


async def test_pages_overlap_so_that_a_deletion_hides_no_object(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(related_walk, "PAGE_SIZE", 4)
    monkeypatch.setattr(related_walk, "PAGE_OVERLAP", 2)
    fill(clerk, users=9)

    def remove(request: Request) -> None:
        if request.url.path == "/v1/organization_memberships" and request.query_params["offset"] == "2":
            del clerk.memberships["orgmem_0"]

    clerk.answer_list = remove
    report = await reconcile(mapping=MAPPING)
    assert (report.related["memberships"], report.unlisted, report.is_clean) == (9, {}, True)
    assert await db.fetchval("select count(*) from team_members") == 9
    clerk.answer_list = lambda _: None
    assert (await reconcile(mapping=MAPPING)).deleted == 1


async def test_an_incomplete_list_proves_no_deletion(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    fill(clerk)
    await reconcile(mapping=MAPPING)
    del clerk.memberships["orgmem_0"]

    def skip(request: Request) -> Response | None:
        is_second = request.query_params.get("order_by") == "-created_at"
        listed = [clerk.memberships["orgmem_2"]] * 2
        return JSONResponse({"data": listed, "total_count": 2}) if is_second else None

    clerk.answer_list = skip
    report = await reconcile(mapping=MAPPING)
    assert (report.deleted, report.finished) == (0, False)
    assert await read_state(db) == EXPECTED


async def test_an_unreadable_object_affects_no_other_one(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection, output: Output
) -> None:
    fill(clerk)
    clerk.organizations["org_1"]["updated_at"] = "soon"
    report = await reconcile(mapping=MAPPING)
    assert (report.failed, report.is_clean, report.finished) == (1, False, True)
    assert await read_state(db) == EXPECTED[:3]
    [problem] = list_problems(report)
    assert problem.startswith("1 objects failed.")
    [line] = output.log("objects_unreadable")
    assert (line["entity"], line["first"]) == ("organization", ["org_1"])


@pytest.mark.parametrize("status", [403, 422])
async def test_a_refused_list_is_reported_after_the_users(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection, status: int
) -> None:
    """Such as in an instance without organizations."""
    fill(clerk)
    await reconcile(mapping=MAPPING)
    clerk.users["user_0"]["first_name"] = "New"
    clerk.answer_list = lambda request: (
        JSONResponse(make_error("organization_not_enabled_in_instance", "no"), status)
        if "organization" in request.url.path
        else None
    )
    report = await reconcile(mapping=MAPPING)
    assert (report.finished, report.repaired) == (False, 1)
    assert report.error
    assert f"Clerk refuses the list of organizations ({status})" in report.error
    assert await read_state(db) == EXPECTED


async def test_a_membership_waits_for_a_user_who_signed_up_meanwhile(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    """The walk over the users had ended before. The webhooks of both are on their way."""
    fill(clerk)

    def sign_up(request: Request) -> None:
        if request.url.path == "/v1/organization_memberships":
            clerk.add_membership("orgmem_new", "org_0", "user_new")

    clerk.answer_list = sign_up
    report = await reconcile(mapping=MAPPING)
    assert (report.refused, report.failed, report.is_clean) == (0, 0, True)
    assert await read_state(db) == EXPECTED


async def test_recent_changes_are_those_of_users(reconcile: Reconcile, clerk: ClerkStub) -> None:
    """Clerk cannot list the other objects by the time of their change."""
    fill(clerk)
    report = await reconcile(mapping=MAPPING, recent=True)
    assert (report.users, report.related) == (3, {})


async def test_the_inbox_restores_all_tables_without_clerk(
    database_of_runs: Database, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    """Parents first. The rows of deleted objects go, and a session that has ended stays ended."""
    applier = Applier(Store(database_of_runs, MAPPING))
    bodies = [
        make_session_event("session.created", "sess_1", "user_1", T0),
        make_session_event("session.ended", "sess_2", "user_1", T2),
        make_session_event("session.created", "sess_2", "user_1", T0),
        *(make_organization_event("organization.created", f"org_{n}", T0) for n in (1, 2)),
        *(make_membership_event("created", f"orgmem_{n}", f"org_{n}", "user_1", T0) for n in (1, 2)),
        make_membership_event("updated", "orgmem_1", "org_1", "user_1", T2, role="org:member"),
        make_event("user.updated", "user_1", T2),
    ]
    await apply(applier, bodies)
    before = await read_related(db)
    await db.execute("create table backup as table teams")
    await apply(applier, [make_organization_event("organization.deleted", "org_2")])
    await db.execute("truncate people, teams, team_members, user_sessions cascade")
    await db.execute("insert into teams table backup")
    planned = await Reconciler(applier, None, dry_run=True).run()
    assert (planned.missing, planned.deleted, planned.repaired) == (4, 1, 0)
    report = await Reconciler(applier, None).run()
    assert (report.missing, report.deleted, report.repaired, report.is_clean) == (4, 1, 5, True)
    assert report.related == {"organizations": 1, "sessions": 2, "memberships": 1}
    deleted = {"org_2", "orgmem_2"}
    assert await read_related(db) == {clerk_id: row for clerk_id, row in before.items() if clerk_id not in deleted}
    assert (await Reconciler(applier, None, dry_run=True).run()).drift == 0
    assert clerk.requests == []


async def apply(applier: Applier, bodies: Sequence[dict[str, Any]]) -> None:
    """Apply webhooks, several at a time, as the route does."""
    redactions = {mapping.entity: mapping.redacted_fields for mapping in MAPPING.all}
    events = [parse_event(make_message_id(), encode_body(body), redactions) for body in bodies]
    for first in range(0, len(events), 5):
        await applier.apply(events[first : first + 5])


async def read_related(db: asyncpg.Connection) -> dict[str, dict[str, Any]]:
    """Return the rows of all tables but the users, without the app's own keys, by Clerk ID."""
    ids = {"teams": "clerk_org_id", "team_members": "clerk_membership_id", "user_sessions": "session_id"}
    keys = {"id", "team_id", "person_id", "user_id"}
    return {
        row[column]: {name: value for name, value in row.items() if name not in keys}
        for table, column in ids.items()
        for row in await read_rows(db, table)
    }


@pytest.mark.parametrize("seed", range(HISTORIES))
async def test_a_run_after_any_history_ends_in_clerk_s_state(
    reconcile: Reconcile, clerk: ClerkStub, database_of_runs: Database, db: asyncpg.Connection, seed: int
) -> None:
    """Some webhooks are late, and the app has changed and lost rows."""
    rng = random.Random(seed)
    history = History(rng, f"{seed}_")
    history.live()
    applier = Applier(Store(database_of_runs, MAPPING))
    bodies = [body for _, body in rng.sample(history.messages, len(history.messages))]
    early = rng.randint(0, len(bodies) // 2)
    await apply(applier, bodies[:early])
    await db.execute("select setseed(0.5)")
    for table, column in (("people", "first_name"), ("teams", "name"), ("team_members", "role")):
        await db.execute(f"update {table} set {column} = 'mine' where random() < 0.3")
        await db.execute(f"delete from {table} where random() < 0.2")
    for user, name in history.users.items():
        clerk.add_user(user, T2, first_name=name)
    for organization, name in history.organizations.items():
        clerk.add_organization(organization, T2, name=name)
    for membership, (organization, user, role) in history.memberships.items():
        clerk.add_membership(membership, organization, user, T2, role=role)
    report = await reconcile(mapping=MAPPING, allow_mass_delete=True)
    assert report.finished, report
    for late in ([], bodies[early:]):
        await apply(applier, late)
        users, organizations, _, memberships = await read_tables(db)
        assert (users, organizations, memberships) == (history.users, history.organizations, history.memberships)
