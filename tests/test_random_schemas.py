"""Random users tables through `mapping suggest`, `doctor` and a user's life.

No command fails, no column of the application changes, and no value that is written on insert changes later.
SCHEMAS sets the number of tables, for example 500 at night. A failure prints the table.
"""

import asyncio
import json
import os
from typing import Any

import asyncpg
import pytest
import uvloop
from hypothesis import HealthCheck, Phase, given, note, settings

from sync_service.doctor.findings import Finding
from sync_service.mapping.toml import parse_mapping
from sync_service.settings import Settings
from sync_service.suggest.overview_reader import read_overview
from sync_service.suggest.rendering import render_suggestion
from sync_service.suggest.rows import read_evidence
from tests.apps.clerk_users import NO_NAMES, build_event, build_phone
from tests.findings import run_doctor
from tests.random_schemas import EXISTING, SCHEMAS, RandomSchema
from tests.world import T1, T2, T3, World, make_email_fields, run_world

NUMBER = int(os.environ.get("SCHEMAS", "14"))
CREATED, UPDATED, DELETED = "user.created", "user.updated", "user.deleted"
NEW_USER = "user_2randomNew"

# Warnings that say nothing about new users.
OF_DELETIONS = {"deletion_forbidden", "no_foreign_key", "orphans"}

Row = dict[str, Any]


class SchemaRun:
    """One random table: its suggestion, its findings, and the rows during a user's life."""

    def __init__(self, schema: RandomSchema, world: World, findings: list[Finding]) -> None:
        self.schema = schema
        self.world = world
        self.is_healthy = not any(found.kind != "note" and found.code not in OF_DELETIONS for found in findings)
        columns = world.mapping.columns
        self.written = {name for name, source in columns.items() if not source.insert_only}

    async def read_rows(self) -> dict[str, Row]:
        rows = await self.world.db.fetch(f"select to_jsonb(u) from {self.schema.name} as u")
        return {str(row["id"]): row for row in (json.loads(found[0]) for found in rows)}

    async def deliver(self, body: Row) -> str:
        """Deliver an event; check that it changes one row at most, and there only the columns of the mapping."""
        before = await self.read_rows()
        response = await self.world.deliver(body)
        assert response.status_code in {200, 202, 503}
        outcome = str(response.json().get("outcome"))
        after = await self.read_rows()
        changed = [key for key in before if after.get(key) != before[key]]
        assert len(changed) <= 1, f"{len(changed)} rows changed"
        deletes = body["type"] == DELETED
        for key in changed:
            if key not in after:
                assert deletes
                continue
            names = {name for name, value in after[key].items() if value != before[key][name]}
            allowed = self.written | (set(self.world.mapping.deletion_marks) if deletes else set())
            assert names <= allowed, f"columns of the app changed: {names - allowed}"
        return outcome

    async def live(self) -> None:
        for number, user in enumerate([*EXISTING[: self.schema.rows], NEW_USER]):
            email = make_email_fields(f"random{number}")
            outcome = await self.deliver(build_event(CREATED, user, T1, **email))
            # Without a finding, each user with an email and names gets a row.
            assert not self.is_healthy or outcome == "applied", outcome
            await self.deliver(build_event(UPDATED, user, T2, first_name="Grace", **email))
            await self.deliver(build_event(UPDATED, user, T2 + 10, **NO_NAMES))
            await self.deliver(build_event(UPDATED, user, T1, first_name="Stale"))
        await self.deliver(build_event(CREATED, f"{NEW_USER}Phone", T1, **build_phone(1)))
        for user in (*EXISTING[: self.schema.rows], NEW_USER):
            await self.deliver(build_event(DELETED, user, T3))
            await self.deliver(build_event(UPDATED, user, T3 + 10, first_name="Late"))


async def create_schema(db: asyncpg.Connection, schema: RandomSchema) -> None:
    await db.execute("drop schema if exists app cascade; drop schema public cascade; create schema public")
    await db.execute("create schema app; truncate clerk_sync.identities, clerk_sync.events cascade")
    for statement in schema.statements:
        await db.execute(statement)


async def run_schema(schema: RandomSchema, configured: Settings, dsn: str) -> None:
    db = await asyncpg.connect(dsn)
    try:
        await create_schema(db, schema)
        evidence = await read_evidence(db, await read_overview(db), schema.schema, schema.table)
        assert evidence
        text = render_suggestion(evidence)
        note(text)
        mapping = parse_mapping(text)
        findings = await run_doctor(dsn, text)
        async with run_world(configured, db, mapping=mapping) as world:
            await SchemaRun(schema, world, findings).live()
    finally:
        await db.close()


def test_any_schema_survives_a_user_s_life(request: pytest.FixtureRequest, database: str) -> None:
    configured: Settings = request.getfixturevalue("settings")  # Hypothesis has a function of this name
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)

    @settings(
        max_examples=NUMBER,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        database=None,
        print_blob=True,
    )
    @given(schema=SCHEMAS)
    def check(schema: RandomSchema) -> None:
        note("\n".join(schema.statements))
        runner.run(run_schema(schema, configured, database))

    check()
    runner.close()
