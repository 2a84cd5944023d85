"""PgBouncer in transaction mode: the next statement may run on another connection of the server."""

from pathlib import Path

import asyncpg
import pytest

from tests.faults.conftest import RunUnderFault
from tests.faults.engine import Engine
from tests.faults.fault_run import KILLS
from tests.faults.pooler import explain_missing_pgbouncer, run_pgbouncer
from tests.processes import run_command
from tests.world import SECRET, wait_until


@pytest.mark.skipif(bool(explain_missing_pgbouncer()), reason=explain_missing_pgbouncer() or "pgbouncer is installed")
@pytest.mark.parametrize("query", ["?pgbouncer=true", ""], ids=["configured", "detected"])
async def test_behind_pgbouncer_every_event_is_accepted(
    run_under_fault: RunUnderFault, durable: Engine, tmp_path: Path, query: str
) -> None:
    """Three services share two connections to the server, with the pooler configured or detected (DB1, DB2)."""
    with run_pgbouncer(durable.port, tmp_path) as port:
        async with run_under_fault(
            f"PgBouncer{' configured' if query else ' detected'}", services=3, port=port, query=query
        ) as run:
            await wait_until(lambda: len(run.sender.results) > 100)
            assert {result.status for result in run.sender.results} == {200}
        assert "prepared statement" not in (tmp_path / "pgbouncer.log").read_text()


@pytest.mark.skipif(bool(explain_missing_pgbouncer()), reason=explain_missing_pgbouncer() or "pgbouncer is installed")
async def test_no_event_is_lost_when_pgbouncer_s_connections_are_terminated(
    run_under_fault: RunUnderFault, durable: Engine, tmp_path: Path
) -> None:
    with run_pgbouncer(durable.port, tmp_path) as port:
        async with run_under_fault("PgBouncer, terminated", port=port, query="?pgbouncer=true") as run:
            await run.terminate_connections(KILLS * 2)


@pytest.mark.skipif(bool(explain_missing_pgbouncer()), reason=explain_missing_pgbouncer() or "pgbouncer is installed")
async def test_the_doctor_works_behind_pgbouncer_and_reports_it(durable: Engine, tmp_path: Path) -> None:
    """Its timeouts are set per transaction, so they do not remain on the shared connection."""
    with run_pgbouncer(durable.port, tmp_path) as port:
        for _ in range(3):
            environ = {"DATABASE_URL": durable.dsn("template_migrated", port), "CLERK_WEBHOOK_SIGNING_SECRET": SECRET}
            done = run_command("doctor", cwd=tmp_path, **environ)
            assert done.returncode == 0
            assert ", behind a transaction pooler" in done.stdout
        async with durable.connect("template_migrated") as direct:
            pooled = await asyncpg.connect(durable.dsn("template_migrated", port), statement_cache_size=0)
            limits = "select current_setting('statement_timeout') || current_setting('lock_timeout')"
            assert await pooled.fetchval(limits) == await direct.fetchval(limits) == "00"
            await pooled.close()
