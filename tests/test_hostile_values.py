"""Values that an attacker chooses: each function takes them without an unexpected error, and in little memory."""

import gzip
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_service.big_integers import quote_big_integers
from sync_service.clerk.key_set import parse_key_set
from sync_service.clerk.limited_client import MAX_RESPONSE_BYTES, LimitedClient, ResponseTooLarge
from sync_service.mapping.carried_values import adapt_value
from sync_service.mapping.introspection import Column
from sync_service.sync.notification import parse_retry_after
from sync_service.web.connections import find_caller
from tests.clerk_stub import ClerkStub, make_session_token
from tests.conftest import Output, Serve
from tests.sync_requests import build_settings
from tests.world import run_app

MARKER = "jane@secret.example"
INTEGER = Column("age", "integer", "int4", "N", None, not_null=False, has_default=False, generated=False)


def test_a_long_text_beside_a_big_integer_is_searched_in_constant_memory() -> None:
    text = '["%s", 9007199254740993]' % ("x" * 100_000)
    tracemalloc.start()
    try:
        assert quote_big_integers(text).endswith('"9007199254740993"]')
        assert tracemalloc.get_traced_memory()[1] < 5 * len(text)
    finally:
        tracemalloc.stop()
    assert quote_big_integers(r'["\\", 9007199254740993, "\"9007199254740993"]') == (
        r'["\\", "9007199254740993", "\"9007199254740993"]'
    )


@pytest.mark.parametrize("value", ["0e99999999999999999999", "0e-99999999999999999999", "1e-99999999999999999999"])
def test_an_exponent_without_bounds_makes_a_zero(value: str) -> None:
    assert adapt_value(INTEGER, value) == "0"


@pytest.mark.parametrize("time", ["99999999999:00:00 GMT", "00:00:00 +99999999999999999999"])
def test_a_receiver_s_date_out_of_range_is_no_pause(time: str) -> None:
    assert parse_retry_after(f"Thu, 01 Jan 2026 {time}", datetime.now(UTC)) == timedelta()


@pytest.mark.parametrize("wrong", [{"n": 5}, {"n": None}, {"e": []}, {"d": 5}, {"n": "\xe9"}, {"n": ""}])
def test_a_key_with_wrong_numbers_is_no_key(wrong: dict[str, Any]) -> None:
    key = {"kid": "ins_1", "kty": "RSA", "n": "AQAB", "e": "AQAB"}
    with pytest.raises(ValueError, match="no key"):
        parse_key_set({"keys": [key | wrong]})


def test_the_addresses_of_one_host_are_one_caller() -> None:
    assert find_caller("2001:db8:0:1::1") == find_caller("2001:db8::1:ffff:ffff:ffff:ffff")
    assert find_caller("fe80::1%eth0") == find_caller("fe80::2%eth0")
    addresses = ["2001:db8::1", "2001:db8:0:2::1", "::ffff:203.0.113.7", "::ffff:203.0.113.8", "203.0.113.9", "", "::x"]
    assert len({*map(find_caller, addresses)}) == len(addresses)


async def test_a_response_of_clerk_is_read_up_to_a_limit() -> None:
    """The body is 65 kB of gzip, compressed once more."""
    bomb = gzip.compress(gzip.compress(bytes(MAX_RESPONSE_BYTES + 1)))

    async def respond(_: Request) -> Response:
        return Response(bomb, headers={"content-encoding": "gzip, gzip", "content-type": "application/json"})

    async def respond_briefly(_: Request) -> Response:
        return Response(gzip.compress(b'{"a": 1}'), headers={"content-encoding": "gzip"})

    app = Starlette(routes=[Route("/bomb", respond), Route("/brief", respond_briefly)])
    async with run_app(app) as url, LimitedClient() as client:
        with pytest.raises(ResponseTooLarge):
            await client.get(f"{url}/bomb")
        assert (await client.get(f"{url}/brief")).json() == {"a": 1}


async def test_no_log_line_contains_a_key_that_the_caller_invents(
    serve: Serve, clerk: ClerkStub, output: Output
) -> None:
    clerk.add_user("user_1")
    async with serve(**build_settings(clerk)) as world:
        headers = {"Authorization": f"Bearer {make_session_token('user_1')}"}
        content = rb'{"%s": "\ud800", "profile": {"first_name": "\u0000"}}' % MARKER.encode()
        assert (await world.client.post("/sync", headers=headers, content=content)).status_code == 200
    [line] = output.log("value_replaced")
    assert line["fields"] == ["first_name"]
    assert MARKER not in output.said
