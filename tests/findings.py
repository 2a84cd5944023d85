"""Runs of the doctor for tests that check its findings instead of the command's output."""

from dataclasses import replace
from typing import Any

import asyncpg

from sync_service.cli.database import open_connection
from sync_service.doctor.findings import Finding
from sync_service.doctor.run import CheckRun
from sync_service.dsn import parse_dsn
from sync_service.mapping.presets import DEFAULT
from sync_service.mapping.toml import parse_mapping
from sync_service.settings import Settings
from tests.world import SECRET


class Findings(list[Finding]):
    """The findings of a run, with lookups by code."""

    def codes(self, *kinds: str) -> set[str]:
        return {finding.code for finding in self if not kinds or finding.kind in kinds}

    def all(self, code: str) -> list[Finding]:
        return [finding for finding in self if finding.code == code]

    def one(self, code: str) -> Finding:
        (found,) = self.all(code)
        return found


async def run_doctor(database: str, toml: str | None = None, **changes: Any) -> Findings:
    """Return the doctor's findings for this `sync.toml`."""
    mapping = parse_mapping(toml) if toml else DEFAULT
    given = Settings(database=parse_dsn(database), clerk_webhook_signing_secrets=(SECRET,), mapping=mapping)
    settings = replace(given, **changes)
    assert settings.database
    check_run = CheckRun(settings)
    async with open_connection(settings) as connection:
        await check_run.check_database(connection)
    found = Findings(check_run.findings)
    print(*found, sep="\n")  # the fixture `output` searches it for sentinels
    return found


def add_lines(toml: str, finding: Finding) -> str:
    """Return the `sync.toml` with the lines of a finding below [users.columns]."""
    lines = [line.removeprefix("in sync.toml, below [users.columns]: ") for line in finding.do]
    return "\n".join([toml, *lines, ""])


async def apply_fix(connection: asyncpg.Connection, finding: Finding) -> None:
    """Run the SQL of a finding statement by statement, as `psql` does."""
    assert finding.run
    for statement in finding.run:
        await connection.execute(statement)
