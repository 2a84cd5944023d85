"""POST /sync creates a row from the backend's profile where Clerk's API is not configured."""

from tests.clerk_stub import ClerkStub
from tests.conftest import Serve
from tests.sync_requests import build_settings, post_sync_as_backend, read_outcome
from tests.world import T1, T3, World, make_email_fields, make_event


async def test_a_profile_creates_a_missing_row_that_clerk_s_data_replace(serve: Serve, clerk: ClerkStub) -> None:
    # Any version from Clerk is newer than a profile, whatever `updated_at` the profile has.
    profile = {"first_name": "Ada PII_SENTINEL", "updated_at": T3, **make_email_fields("a")}
    async with serve(**build_settings(clerk, clerk_secret_key=None)) as world:
        response = await post_sync_as_backend(world, profile=profile)
        assert await read_outcome(response) == "unverified"
        assert response.json()["user"]["email"] == "a.PII_SENTINEL@example.com"
        assert await read_outcome(post_sync_as_backend(world, profile={"first_name": "Mallory"})) == "unverified"
        row = await world.get_user("user_1")
        assert row
        assert row["first_name"] == "Ada PII_SENTINEL"  # a profile never overwrites a row
        assert await world.deliver_ok(make_event("user.created", "user_1", T1, first_name="Grace")) == "applied"
        assert await read_outcome(post_sync_as_backend(world, profile=profile)) == "current"
        await world.deliver_ok(make_event("user.deleted", "user_1"))
        assert (await post_sync_as_backend(world, profile=profile)).status_code == 410
        assert await world.get_user("user_1") is None


async def test_a_profile_is_ignored_where_a_key_is_configured(world: World, clerk: ClerkStub) -> None:
    assert (await post_sync_as_backend(world, profile={"first_name": "x"})).status_code == 404
    clerk.error_status = 500
    assert (await post_sync_as_backend(world, profile={"first_name": "x"})).status_code == 503
    assert await world.get_users() == []
