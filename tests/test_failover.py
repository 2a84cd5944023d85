"""Connections that have become useless are replaced all at once: to a demoted server, and silent ones."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from sync_service.dsn import parse_dsn
from sync_service.postgres.pool import connect
from tests.clerk_stub import API_TOKEN
from tests.conftest import Serve
from tests.faults.proxy import Proxy, run_proxy
from tests.processes import reserve_port
from tests.sync_requests import post_sync_as_backend
from tests.world import INSTANCE, T2, World, make_event


@pytest.fixture
async def proxy(database: str) -> AsyncIterator[Proxy]:
    """A proxy in front of the test's database."""
    [folder] = parse_qs(urlsplit(database).query)["host"]
    async with run_proxy(f"{folder}/.s.PGSQL.5432") as running:
        yield running


def serve_through(serve: Serve, proxy: Proxy, database: str) -> contextlib.AbstractAsyncContextManager[World]:
    name = urlsplit(database).path
    dsn = parse_dsn(f"postgresql://postgres@127.0.0.1:{proxy.port}{name}")
    return serve(database=dsn, sync_api_token=API_TOKEN)


async def set_for_database(db: asyncpg.Connection, change: str) -> None:
    """Change a setting of all later connections."""
    await db.execute(f'alter database "{await db.fetchval("select current_database()")}" {change}')


async def fill_pool(world: World, db: asyncpg.Connection, database: str) -> None:
    """Open all connections of the pool: concurrent logins wait for a lock that is then released."""
    other = await asyncpg.connect(database)
    async with other.transaction():
        await other.execute("lock table users in access exclusive mode")
        logins = [asyncio.create_task(post_sync_as_backend(world, f"user_{n}")) for n in range(60)]
        events = [asyncio.create_task(world.client.get("/readyz")) for n in range(6)]
        await asyncio.sleep(0.5)
    await asyncio.gather(*logins, *events)
    await other.close()


async def test_connections_to_a_demoted_server_are_replaced_at_once(
    serve: Serve, db: asyncpg.Connection, database: str
) -> None:
    """No webhook is refused: the first one replaces all connections and is applied through a new one."""
    await set_for_database(db, "set default_transaction_read_only = on")
    async with serve(sync_api_token=API_TOKEN, clerk_instance_id=INSTANCE) as world:
        await fill_pool(world, db, database)
        assert (await world.client.get("/readyz")).json() == {"status": "not ready", "reason": "database"}
        await fill_pool(world, db, database)
        await set_for_database(db, "reset default_transaction_read_only")
        statuses = [(await world.deliver(make_event("user.created", f"user_{n}"))).status_code for n in range(12)]
        assert statuses == [200] * 12
        assert (await world.client.get("/readyz")).status_code == 200


async def test_a_trigger_with_the_code_of_a_demoted_server_replaces_no_connection(
    serve: Serve, db: asyncpg.Connection
) -> None:
    await db.execute("""
        create function refuse() returns trigger language plpgsql as
        $$ begin raise exception 'no' using errcode = '25006'; end $$;
        create trigger refuse before insert on users for each row when (new.id = 'user_1') execute function refuse();
    """)
    ours = (
        "select min(backend_start) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    )
    async with serve() as world:
        await world.deliver_ok(make_event("user.created", "user_2"))
        before = await db.fetchval(ours)
        assert (await world.deliver(make_event("user.created", "user_1"))).status_code == 202
        assert await db.fetchval(ours) == before


async def test_silent_connections_are_replaced_at_once(
    serve: Serve, db: asyncpg.Connection, database: str, proxy: Proxy
) -> None:
    """Of ten silent connections only the first one costs time; the webhook that met it is applied."""
    async with serve_through(serve, proxy, database) as world:
        await world.deliver_ok(make_event("user.created", "user_1"))
        await fill_pool(world, db, database)
        assert proxy.silence_connections() > 2
        statuses = [(await world.deliver(make_event("user.updated", "user_1", T2 + n))).status_code for n in range(8)]
        assert statuses == [200] * 8
        logins = [(await post_sync_as_backend(world, "user_1")).status_code for _ in range(8)]
        assert logins == [200] * 8


async def test_a_host_that_drops_packets_costs_its_share_of_the_time_once(
    serve: Serve, database: str, proxy: Proxy
) -> None:
    """With one timeout for all hosts, asyncpg never tried the second one, and the service never became ready."""
    name = urlsplit(database).path
    async with run_proxy(proxy.port) as dead:
        dead.hold()
        hosts = f"127.0.0.1:{dead.port},127.0.0.1:{proxy.port}"
        async with serve(database=parse_dsn(f"postgresql://postgres@{hosts}{name}")) as world:
            assert await world.deliver_ok(make_event("user.created", "user_1")) == "applied"
            tried = dead.accepted
            assert tried > 0
            proxy.abort_connections()
            assert await world.deliver_ok(make_event("user.created", "user_2")) == "applied"
            assert dead.accepted == tried


async def test_the_error_of_the_host_that_responds_is_raised(proxy: Proxy) -> None:
    """It explains more than a host that is down."""
    for hosts in (f"127.0.0.1:{reserve_port()},127.0.0.1:{proxy.port}", f"127.0.0.1:{proxy.port},127.0.0.1:1"):
        with pytest.raises(asyncpg.InvalidCatalogNameError):
            await connect(parse_dsn(f"postgresql://postgres@{hosts}/nowhere"))


async def test_a_login_on_a_silent_connection_replaces_the_others(
    serve: Serve, db: asyncpg.Connection, database: str, proxy: Proxy
) -> None:
    async with serve_through(serve, proxy, database) as world:
        await world.deliver_ok(make_event("user.created", "user_1"))
        await fill_pool(world, db, database)
        proxy.silence_connections()
        assert (await post_sync_as_backend(world, "user_1")).status_code in {200, 503}
        logins = [(await post_sync_as_backend(world, "user_1")).status_code for _ in range(8)]
        assert logins == [200] * 8
        assert (await world.client.get("/readyz")).status_code == 200


async def test_readyz_on_a_silent_connection_replaces_the_others(
    serve: Serve, db: asyncpg.Connection, database: str, proxy: Proxy
) -> None:
    async with serve_through(serve, proxy, database) as world:
        await fill_pool(world, db, database)
        proxy.silence_connections()
        assert (await world.client.get("/readyz")).status_code == 503
        assert (await world.client.get("/readyz")).status_code == 200
        assert await world.deliver_ok(make_event("user.created", "user_1")) == "applied"
