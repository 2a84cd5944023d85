"""PgBouncer in transaction mode: the next statement may meet another connection of the server."""

from pathlib import Path

import asyncpg
import pytest

from tests.faults.conftest import Besiege
from tests.faults.engine import Engine
from tests.faults.pooler import missing, pooled
from tests.faults.siege import KILLS
from tests.processes import run_command
from tests.world import SECRET


@pytest.mark.skipif(bool(missing()), reason=missing() or "it is there")
@pytest.mark.parametrize("query", ["?pgbouncer=true", ""], ids=["said", "found out"])
async def test_behind_pgbouncer_every_event_is_taken(
    besiege: Besiege, durable: Engine, tmp_path: Path, query: str
) -> None:
    """DB1, DB2: two connections to the server for three services at once."""
    with pooled(durable.port, tmp_path) as port:
        async with besiege(
            f"PgBouncer{' said' if query else ' found out'}", services=3, port=port, query=query
        ) as siege:
            await siege.pause(3, 3.5)
            assert {answer.status for answer in siege.sender.answers} == {200}
            assert len(siege.sender.answers) > 100
        assert "prepared statement" not in (tmp_path / "pgbouncer.log").read_text()


@pytest.mark.skipif(bool(missing()), reason=missing() or "it is there")
async def test_nothing_is_lost_when_pgbouncer_s_connections_are_terminated(
    besiege: Besiege, durable: Engine, tmp_path: Path
) -> None:
    with pooled(durable.port, tmp_path) as port:
        async with besiege("PgBouncer, terminated", port=port, query="?pgbouncer=true") as siege:
            await siege.terminate(KILLS * 2)


@pytest.mark.skipif(bool(missing()), reason=missing() or "it is there")
async def test_the_doctor_works_behind_pgbouncer_and_says_that_it_is_there(durable: Engine, tmp_path: Path) -> None:
    """Its limits of time are those of its transactions: whoever has the connection next has none of them."""
    with pooled(durable.port, tmp_path) as port:
        for _ in range(3):
            environ = {"DATABASE_URL": durable.dsn("template_migrated", port), "CLERK_WEBHOOK_SIGNING_SECRET": SECRET}
            done = run_command("doctor", cwd=tmp_path, **environ)
            assert done.returncode == 0
            assert ", behind a transaction pooler" in done.stdout
        async with durable.connected("template_migrated") as direct:
            left = await asyncpg.connect(durable.dsn("template_migrated", port), statement_cache_size=0)
            limits = "select current_setting('statement_timeout') || current_setting('lock_timeout')"
            assert await left.fetchval(limits) == await direct.fetchval(limits) == "00"
            await left.close()
