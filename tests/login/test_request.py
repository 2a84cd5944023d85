"""POST /sync refuses a malformed request."""

from tests.clerk_stub import API_TOKEN, ClerkStub, make_bearer_header
from tests.conftest import Output
from tests.problems import read_problem_code
from tests.sync_requests import post_sync, post_sync_as_backend
from tests.world import World

INVALID_BODIES = [
    b"x",
    b"[]",
    b"7",
    b'{"user_id": 7}',
    b'{"user_id": ""}',
    b'{"user_id": "user 1"}',
    b'{"user_id": "user_1\\u0000"}',
    b'{"user_id": "\\ud800"}',
    b'{"user_id": "user_1", "profile": 7}',
    b'{"user_id": "user_1", "profile": {"first_name": 7}}',
    b'{"user_id": "user_1", "profile": {"id": "user_2"}}',
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"user_id": "' + b"u" * 300 + b'"}',
    b"{}",
    b"",
]


async def test_a_body_without_a_valid_user_is_a_400(world: World, output: Output) -> None:
    for body in INVALID_BODIES:
        response = await world.client.post("/sync", headers=make_bearer_header(API_TOKEN), content=body)
        assert (response.status_code, read_problem_code(response)) == (400, "bad_request"), body
    assert not output.log("unhandled_exception")


async def test_bodies_and_methods_are_limited(world: World) -> None:
    response = await world.client.post("/sync", headers=make_bearer_header(API_TOKEN), content=b" " * (1024 * 1024 + 1))
    assert (response.status_code, read_problem_code(response)) == (413, "body_too_large")
    for method in ("GET", "PUT", "OPTIONS"):
        assert (await world.client.request(method, "/sync")).status_code == 405
    response = await post_sync(world, query="?refresh=perhaps")
    assert (response.status_code, read_problem_code(response)) == (400, "bad_request")


async def test_an_invalid_id_is_a_404_without_a_request_to_clerk(world: World, clerk: ClerkStub) -> None:
    for invalid_id in ("../jwks", "..", "user_1/../../jwks", "user_1?x=1", "%2e%2e", "user_1#x"):
        assert (await post_sync_as_backend(world, invalid_id)).status_code == 404
    assert clerk.requests == []
