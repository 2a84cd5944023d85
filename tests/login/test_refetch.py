"""The service fetches a user again where webhooks leave the correct values unknown."""

from datetime import timedelta

import httpx2

from sync_service.clerk.client import ClerkClient
from sync_service.clerk.rate_limit import RateLimiter
from sync_service.dsn import parse_dsn
from sync_service.mapping.presets import DEFAULT
from sync_service.postgres.pool import open_database
from sync_service.store.access import Store
from sync_service.sync.apply import Applier
from sync_service.sync.refresh import UserRefresher
from tests.clerk_stub import SECRET_KEY, ClerkStub
from tests.conftest import Serve
from tests.sync_requests import age_identities, post_sync, read_outcome
from tests.world import T1, T2, T3, World, make_email_fields, make_event, wait_until


async def test_of_two_versions_with_one_timestamp_clerk_s_current_one_wins(world: World, clerk: ClerkStub) -> None:
    """Two versions with the same timestamp mark the user for a fetch; the row ends as Clerk has the user (F7)."""
    for number, current_name in enumerate(("Ada", "Grace")):
        user = f"user_{number}"
        clerk.add_user(user, T1, first_name=current_name)
        for name in ("Ada", "Grace"):
            await world.deliver(make_event("user.updated", user, T1, first_name=name))

        async def is_current(user: str = user, current_name: str = current_name) -> bool:
            row = await world.get_user(user)
            is_pending = await world.db.fetchval(
                "select refetch_pending from clerk_sync.identities where clerk_id = $1", user
            )
            return bool(row and row["first_name"] == current_name and not is_pending)

        await wait_until(is_current)
        for name in ("Ada", "Grace"):
            await world.deliver(make_event("user.updated", user, T1, first_name=name))
        assert await is_current()


async def test_an_email_without_a_stored_payload_is_fetched_from_clerk(world: World, clerk: ClerkStub) -> None:
    """A user from a login had the email of another row; once that row gives it up, the next login fetches it."""
    await world.deliver_ok(make_event("user.created", "user_1", T2, **make_email_fields("a")))
    clerk.add_user("user_2", T1, **make_email_fields("a"))
    response = await post_sync(world, "user_2")
    assert await read_outcome(response) == "created"
    assert response.json()["user"]["email"] is None
    await world.deliver_ok(make_event("user.updated", "user_1", T3, **make_email_fields("b")))
    await age_identities(world.db)
    assert await read_outcome(post_sync(world, "user_2")) == "updated"
    row = await world.get_user("user_2")
    assert row
    assert row["email"] == "a.PII_SENTINEL@example.com"


async def test_maintenance_fetches_pending_emails_and_removes_expired_leases(
    serve: Serve, clerk: ClerkStub, database: str
) -> None:
    """One round of maintenance fetches the pending email without a login; the next round makes no request."""
    async with serve() as world:
        await world.deliver_ok(make_event("user.created", "user_1", T2, **make_email_fields("a")))
        await world.deliver_ok(make_event("user.created", "user_2", T1, **make_email_fields("a")))
        await world.db.execute("update clerk_sync.events set payload = null")
        await world.deliver_ok(make_event("user.updated", "user_1", T3, **make_email_fields("b")))
    await age_identities(db := world.db)
    await db.execute("insert into clerk_sync.fetches values ('user_9', now() - interval '2 hours')")
    clerk.add_user("user_2", T1, **make_email_fields("a"))
    pool = await open_database(parse_dsn(database))
    async with httpx2.AsyncClient() as client:
        api = ClerkClient(client, clerk.url, SECRET_KEY)
        applier = Applier(Store(pool, DEFAULT))
        refresher = UserRefresher(applier, api, RateLimiter(max_requests=100), max_age=timedelta(hours=1))
        assert await refresher.refetch_pending() == 1
        assert await db.fetchval("select email from users where id = 'user_2'") == "a.PII_SENTINEL@example.com"
        assert await db.fetchval("select count(*) from clerk_sync.fetches") == 0
        assert await refresher.refetch_pending() == 0
        assert clerk.user_calls == 1
        # No request while Clerk fails.
        await db.execute("update clerk_sync.identities set refetch_pending = true")
        clerk.error_status = 500
        assert await refresher.refetch_pending() == 0
        assert clerk.user_calls == 2
        await refresher.close()
    await pool.aclose()
