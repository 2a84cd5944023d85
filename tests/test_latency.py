"""A distant database: each round trip takes 20 ms, and refused rows cost few of them."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from sync_service.dsn import parse_dsn
from tests.conftest import Serve
from tests.faults.proxy import Proxy, run_proxy
from tests.world import make_event


@pytest.fixture
async def proxy(database: str) -> AsyncIterator[Proxy]:
    """A proxy in front of the test's database that delays each direction by 10 ms."""
    [folder] = parse_qs(urlsplit(database).query)["host"]
    async with run_proxy(f"{folder}/.s.PGSQL.5432") as running:
        running.delay = 0.01
        yield running


@pytest.mark.parametrize(
    ("obstacle", "reason"),
    [
        ("add constraint no_grace check (first_name <> 'Grace')", "check_violation"),
        ("alter first_name type integer using null", "invalid_text_representation"),
    ],
    ids=["constraint", "type"],
)
async def test_refused_rows_do_not_delay_the_others(
    serve: Serve, db: asyncpg.Connection, database: str, proxy: Proxy, obstacle: str, reason: str
) -> None:
    """Of 100 webhooks at once 64 are parked, and 36 are applied; none is refused."""
    await db.execute(f"alter table users {obstacle}")
    dsn = parse_dsn(f"postgresql://postgres@127.0.0.1:{proxy.port}{urlsplit(database).path}")
    async with serve(database=dsn) as world:
        bodies = [
            make_event("user.created", f"user_{n}", first_name="Grace" if n % 25 < 16 else None) for n in range(100)
        ]
        answers = await asyncio.gather(*(world.deliver(body) for body in bodies))
        assert [answer.status_code for answer in answers] == [202 if n % 25 < 16 else 200 for n in range(100)]
        assert {answer.json()["reason"] for answer in answers if answer.status_code == 202} == {reason}
        assert await db.fetchval("select count(*) from users") == 36
