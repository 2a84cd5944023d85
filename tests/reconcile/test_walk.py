"""A walk sees each user once, in spite of the faults of Clerk's lists."""

from collections.abc import Callable

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sync_service.clerk import user_walk
from sync_service.clerk.client import ClerkClient
from sync_service.clerk.list_requests import MAX_REQUESTS, MAX_REQUESTS_OF_DEVELOPMENT, create_limiter
from sync_service.clerk.rate_limit import RateLimiter
from sync_service.clerk.user_list import UserList, decode_users
from sync_service.clerk.user_walk import iter_pages
from sync_service.errors import ClerkUnavailable
from tests.clerk_stub import SECRET_KEY, ClerkStub, make_error
from tests.reconcile.conftest import add_users
from tests.world import T0, T1


async def walk(clerk: ClerkStub) -> list[str]:
    """Return the users of a walk, in its order."""
    async with httpx2.AsyncClient() as http:
        limiter = RateLimiter(max_requests=1000, max_requests_per_user=1000)
        users = UserList(ClerkClient(http, clerk.url, SECRET_KEY), limiter, give_up_after=12)
        return [user.clerk_id async for page, _ in iter_pages(users) for user in page]


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_walk, "PAGE_SIZE", 5)


def build_answers(clerk: ClerkStub, fault: str) -> Callable[[Request], Response | None]:
    """Return answers with a fault: the third request, or each one with a cursor."""
    calls = 0
    first = JSONResponse([clerk.users[f"user_{n:05}"] for n in range(5)])

    def answer(request: Request) -> Response | None:
        nonlocal calls
        calls += 1
        match fault:
            case "429 with Retry-After" if calls % 4 == 3:
                return JSONResponse({}, 429, {"Retry-After": "1"})
            case "500" if calls == 3:
                return JSONResponse({}, 500)
            case "truncated JSON" if calls == 3:
                return Response(b'[{"id": "user_00010", ', media_type="application/json")
            case "a repeated page" if calls == 3:
                return first
            case "a cursor that is refused" if "starting_after" in request.query_params:
                return JSONResponse(make_error("form_param_unknown", "starting_after"), 422)
            case "the user of the cursor is deleted" if calls == 3:
                clerk.remove_user("user_00009")
        return None

    return answer


@pytest.mark.parametrize(
    "fault",
    [
        *("none", "429 with Retry-After", "500", "truncated JSON", "a repeated page", "a cursor that is refused"),
        "the user of the cursor is deleted",
    ],
)
async def test_a_walk_sees_each_user_once(clerk: ClerkStub, fault: str) -> None:
    """The users of one page have up to three creation times, and no fault ends the walk early (G4)."""
    add_users(clerk, 22)
    clerk.answer_list = build_answers(clerk, fault)
    assert await walk(clerk) == [f"user_{n:05}" for n in range(22)]


async def test_a_full_last_page_is_followed_by_a_look_at_the_end(clerk: ClerkStub) -> None:
    add_users(clerk, 10)
    assert len(await walk(clerk)) == 10
    assert clerk.list_calls == 4


async def test_a_server_that_ignores_the_cursor_is_read_by_time(clerk: ClerkStub) -> None:
    """A page that contains only known users is no end, and a walk never turns in circles."""
    add_users(clerk, 22)

    def ignore_cursor(request: Request) -> Response:
        after = int(request.query_params.get("created_at_after", "-1"))
        return JSONResponse([user for user in clerk.users.values() if user["created_at"] > after][:5])

    clerk.answer_list = ignore_cursor
    assert await walk(clerk) == [f"user_{n:05}" for n in range(22)]
    for user in clerk.users.values():
        user["created_at"] = T0
    with pytest.raises(ClerkUnavailable, match="more users of one millisecond"):
        await walk(clerk)


async def test_many_users_of_one_millisecond_are_read_by_cursor(clerk: ClerkStub) -> None:
    for n in range(13):
        clerk.add_user(f"user_{n:05}", T1)
    assert len(set(await walk(clerk))) == 13


async def test_an_unreadable_user_keeps_its_place(clerk: ClerkStub) -> None:
    """It counts as a user that Clerk has. A list of another form is an outage."""
    add_users(clerk, 3)
    clerk.users["user_00001"]["banned"] = "perhaps"
    assert await walk(clerk) == ["user_00000", "user_00001", "user_00002"]
    for content in (b"{}", b'[{"id": ""}]', b"[1]", b'[{"id": "user_1"'):
        with pytest.raises(ClerkUnavailable, match="unreadable_list"):
            decode_users(content)


def test_a_walk_leaves_most_of_the_quota_to_logins_and_to_the_app() -> None:
    """The quota is 1,000 requests in 10 s in production, and 100 in development."""
    for key, quota, most in (("sk_live_x", 1000, MAX_REQUESTS), ("sk_test_x", 100, MAX_REQUESTS_OF_DEVELOPMENT)):
        limiter = create_limiter(key)
        assert not any(limiter.acquire("", 0.0) for _ in range(most))
        assert limiter.acquire("", 0.0) > 0
        assert most <= quota / 2
