"""Faults of Clerk's lists during a run: it completes, or it stops with a reason. No user is deleted by mistake."""

import asyncio
from collections.abc import Callable, Iterator

import asyncpg
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sync_service.clerk import user_walk
from tests.clerk_stub import ClerkStub, make_error
from tests.reconcile.conftest import Clock, Reconcile, add_users
from tests.world import T0, T1, T2

COUNT, PAGE = 32, 5

Answer = Callable[[int, Request], Response | None]


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_walk, "PAGE_SIZE", PAGE)


def list_users(clerk: ClerkStub, first: int, last: int) -> Response:
    """Return a page with the users from one number to another that Clerk still has."""
    ids = [f"user_{n:05}" for n in range(first, last)]
    return JSONResponse([clerk.users[clerk_id] for clerk_id in ids if clerk_id in clerk.users])


def storm(clerk: ClerkStub) -> Answer:
    """Each page is refused three times, and Clerk says to wait for half a minute."""
    return lambda call, _: JSONResponse({}, 429, {"Retry-After": "30"}) if call % 4 else None


def errors(clerk: ClerkStub) -> Answer:
    """Three of four responses are errors of the server."""
    return lambda call, _: JSONResponse({}, 500) if call % 4 else None


def truncated(clerk: ClerkStub) -> Answer:
    """The JSON of every other page ends in the middle of a user."""
    return lambda call, _: Response(b'[{"id": "user_00010", "object": ') if call % 2 else None


def repeated(clerk: ClerkStub) -> Answer:
    """The third page is the second one again."""
    return lambda call, _: list_users(clerk, 5, 10) if call == 3 else None


def skipped(clerk: ClerkStub) -> Answer:
    """The third page is left out."""
    return lambda call, _: list_users(clerk, 15, 20) if call == 3 else None


def shrinking(clerk: ClerkStub) -> Answer:
    """The third page lacks its end, and the fourth one is empty."""
    return lambda call, _: {3: list_users(clerk, 10, 12), 4: JSONResponse([])}.get(call)


def lost_cursor(clerk: ClerkStub) -> Answer:
    """The user of the cursor is deleted meanwhile, so Clerk refuses the cursor."""

    def answer(call: int, request: Request) -> Response | None:
        if call != 3:
            return None
        clerk.remove_user(request.query_params["starting_after"])
        return JSONResponse(make_error("resource_not_found", "starting_after"), 404)

    return answer


def number_calls(answer: Answer) -> Callable[[Request], Response | None]:
    """Return an answer for the stub that gets the number of the request for a page of the walk."""
    calls = 0

    def answer_list(request: Request) -> Response | None:
        nonlocal calls
        if "user_id" in request.query_params:
            return None
        calls += 1
        return answer(calls, request)

    return answer_list


async def prepare(reconcile: Reconcile, clerk: ClerkStub) -> None:
    """Import all users; then one of them is updated, one is deleted and one is new, without a webhook."""
    add_users(clerk, COUNT)
    assert (await reconcile()).is_clean
    clerk.users["user_00003"]["updated_at"] = T2
    clerk.users["user_00003"]["first_name"] = "Updated"
    clerk.remove_user("user_00013")
    clerk.add_user("user_new", T1, created_at=T0 + COUNT)


async def read_names(db: asyncpg.Connection) -> dict[str, str]:
    return {row["id"]: row["first_name"] for row in await db.fetch("select id, first_name from users")}


def find_names(clerk: ClerkStub) -> dict[str, str]:
    return {clerk_id: user["first_name"] for clerk_id, user in clerk.users.items()}


@pytest.mark.parametrize("fault", [storm, errors, truncated, repeated, skipped, shrinking, lost_cursor])
async def test_a_run_completes_in_spite_of_the_fault(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection, fault: Callable[[ClerkStub], Answer]
) -> None:
    """The table then has all users as Clerk has them (G4). Only the next run finds a seen user that was deleted."""
    await prepare(reconcile, clerk)
    clerk.answer_list = number_calls(fault(clerk))
    clock = Clock()
    report = await reconcile(clock=clock)
    assert report.is_clean, report
    assert (await read_names(db)).items() >= find_names(clerk).items()
    if fault is storm:
        assert clock.now >= 1000 + 3 * 30 * (COUNT // PAGE)
    clerk.answer_list = lambda _: None
    later = await reconcile()
    assert later.drift == later.deleted == (fault is lost_cursor)
    assert await read_names(db) == find_names(clerk)


async def test_a_page_that_takes_too_long_is_requested_again(reconcile: Reconcile, clerk: ClerkStub) -> None:
    await prepare(reconcile, clerk)
    calls, is_over = 0, asyncio.Event()

    async def answer(_: Request) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            await is_over.wait()

    clerk.answer_list = answer
    report = await reconcile(clock=Clock(), timeout=1)
    is_over.set()
    assert (report.is_clean, report.repaired) == (True, 3)


async def test_users_that_no_list_shows_are_counted(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    """The first import lacks a page, and only Clerk's count tells it. The next run imports these users."""
    add_users(clerk, COUNT)
    clerk.answer_list = number_calls(skipped(clerk))
    report = await reconcile()
    assert (report.finished, report.is_clean) == (True, False)
    assert (report.users, report.unlisted, report.failed) == (COUNT - PAGE, {"users": PAGE}, PAGE)
    clerk.answer_list = lambda _: None
    assert (await reconcile()).is_clean
    assert await db.fetchval("select count(*) from users") == COUNT


async def test_users_created_after_the_last_page_are_not_missing(reconcile: Reconcile, clerk: ClerkStub) -> None:
    """The count includes them, so the walk looks at its end again."""
    add_users(clerk, 3)

    def answer(call: int, _: Request) -> Response | None:
        if call != 2:
            return None
        response = JSONResponse([])
        clerk.add_user("user_new", T1, created_at=T1)
        return response

    clerk.answer_list = number_calls(answer)
    report = await reconcile()
    assert (report.users, report.is_clean) == (4, True)


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (JSONResponse({}, 401), "correct CLERK_SECRET_KEY"),
        (JSONResponse({}, 500), "Clerk cannot be asked (500)"),
        (JSONResponse({}, 429), "Clerk cannot be asked (429)"),
        (Response(b"[{"), "Clerk cannot be asked (unreadable_list)"),
        (JSONResponse({}, 422), "Clerk cannot be asked (422)"),
    ],
)
async def test_a_run_stops_with_a_reason(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection, response: Response, words: str
) -> None:
    """From the fourth page on Clerk does not answer. The users of the first pages are repaired, and none is deleted."""
    await prepare(reconcile, clerk)
    clerk.answer_list = number_calls(lambda call, _: response if call > 3 else None)
    report = await reconcile(clock=Clock())
    assert report.error
    assert words in report.error
    assert (report.finished, report.deleted, report.stale) == (False, 0, 1)
    assert (await read_names(db)).keys() >= {f"user_{n:05}" for n in range(COUNT)}
    clerk.answer_list = lambda _: None
    assert (await reconcile()).is_clean
    assert await read_names(db) == find_names(clerk)


@pytest.fixture(params=["closed port", "no response"])
def unreachable(request: pytest.FixtureRequest, clerk: ClerkStub) -> Iterator[None]:
    """Clerk's port is closed, or its host swallows all packets."""
    if request.param == "no response":
        with clerk.hold():
            yield
        return
    url, clerk.url = clerk.url, "http://127.0.0.1:9"
    yield
    clerk.url = url


@pytest.mark.usefixtures("unreachable")
async def test_a_run_gives_up_on_an_unreachable_clerk_in_half_a_minute(
    reconcile: Reconcile, db: asyncpg.Connection
) -> None:
    """Each request that gets no response takes up to ten seconds of that time."""
    clock = Clock()
    report = await reconcile(clock=clock, timeout=0.1)
    assert report.error
    assert report.error.startswith("Clerk cannot be asked (")
    assert clock.now - 1000 <= 30 - 10
    assert await db.fetchval("select array_agg(error) from clerk_sync.reconciles") == [report.error]
