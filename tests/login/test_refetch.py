"""The service fetches a user again where webhooks leave the correct values unknown."""

from datetime import timedelta

import httpx2

from sync_service.clerk.api import ClerkApi
from sync_service.clerk.breaker import Quota
from sync_service.dsn import clean_dsn
from sync_service.mapping.presets import DEFAULT
from sync_service.postgres.pool import open_pool
from sync_service.postgres.statements import Statements
from sync_service.sync.apply import Applier
from sync_service.sync.asking import Questions
from tests.clerk_stub import SECRET_KEY, ClerkStub
from tests.conftest import Serve
from tests.sync_requests import age_identities, post_sync, read_outcome
from tests.world import T1, T2, T3, World, make_email_fields, make_event, wait_until


async def test_of_two_contents_of_one_instant_clerk_says_which_is_right(world: World, clerk: ClerkStub) -> None:
    """F7 and further: the row ends as Clerk has the user, by itself, whichever of the two that is."""
    for number, right in enumerate(("Ada", "Grace")):
        user = f"user_{number}"
        clerk.add_user(user, T1, first_name=right)
        for name in ("Ada", "Grace"):
            await world.deliver(make_event("user.updated", user, T1, first_name=name))

        async def shows(user: str = user, right: str = right) -> bool:
            row = await world.get_user(user)
            wanted = await world.db.fetchval(
                "select refetch_wanted from clerk_sync.identities where clerk_id = $1", user
            )
            return bool(row and row["first_name"] == right and not wanted)

        await wait_until(shows)
        for name in ("Ada", "Grace"):
            await world.deliver(make_event("user.updated", user, T1, first_name=name))
        assert await shows()


async def test_an_address_that_no_payload_has_is_asked_for(world: World, clerk: ClerkStub) -> None:
    """A user whom a login has brought, with an address that another row still had."""
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


async def test_the_background_asks_about_addresses_and_removes_old_leases(
    serve: Serve, clerk: ClerkStub, database: str
) -> None:
    """One round of it, without a login; a second one leaves Clerk alone for a while."""
    async with serve() as world:
        await world.deliver_ok(make_event("user.created", "user_1", T2, **make_email_fields("a")))
        await world.deliver_ok(make_event("user.created", "user_2", T1, **make_email_fields("a")))
        await world.db.execute("update clerk_sync.events set payload = null")
        await world.deliver_ok(make_event("user.updated", "user_1", T3, **make_email_fields("b")))
    await age_identities(db := world.db)
    await db.execute("insert into clerk_sync.fetches values ('user_9', now() - interval '2 hours')")
    clerk.add_user("user_2", T1, **make_email_fields("a"))
    pool = await open_pool(clean_dsn(database))
    async with httpx2.AsyncClient() as client:
        api = ClerkApi(client, clerk.url, SECRET_KEY)
        applier = Applier(pool, Statements(DEFAULT))
        questions = Questions(applier, api, Quota(most=100), max_age=timedelta(hours=1))
        assert await questions.ask_about_doubts() == 1
        assert await db.fetchval("select email from users where id = 'user_2'") == "a.PII_SENTINEL@example.com"
        assert await db.fetchval("select count(*) from clerk_sync.fetches") == 0
        assert await questions.ask_about_doubts() == 0
        assert clerk.user_calls == 1
        # Nothing more than the quota gives, and nothing while Clerk fails.
        await db.execute("update clerk_sync.identities set refetch_wanted = true")
        clerk.error_status = 500
        assert await questions.ask_about_doubts() == 0
        assert clerk.user_calls == 2
        await questions.close()
    await pool.close()
