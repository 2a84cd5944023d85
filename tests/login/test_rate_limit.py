"""POST /sync limits its requests to Clerk's API per user."""

from tests.clerk_stub import ClerkStub
from tests.problems import read_problem_code
from tests.sync_requests import age_identities, post_sync, read_outcome
from tests.world import World


async def test_ten_requests_about_one_user_are_the_limit(world: World, clerk: ClerkStub) -> None:
    """Ten requests to Clerk per user in ten seconds are the limit; logins that need no request are not limited."""
    clerk.add_user("user_1")
    for _ in range(10):
        await read_outcome(post_sync(world, query="?refresh=true"))
    response = await post_sync(world, query="?refresh=true")
    assert (response.status_code, read_problem_code(response)) == (429, "too_many_requests")
    assert 1 <= int(response.headers["retry-after"]) <= 10
    assert await read_outcome(post_sync(world)) == "current"
    await age_identities(world.db)
    assert await read_outcome(post_sync(world)) == "unverified"
    assert clerk.user_calls == 10
    clerk.add_user("user_2")
    assert await read_outcome(post_sync(world, "user_2")) == "created"
    for _ in range(10):
        await post_sync(world, "user_3")
    assert (await post_sync(world, "user_3")).status_code == 429
