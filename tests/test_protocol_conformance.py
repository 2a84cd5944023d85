"""HTTP that RFC 9110 and 9112 allow: an upgrade is ignored, no body is lost, and a limit has a status of its own."""

import asyncio
import json

import pytest

from tests.world import World, encode_body, make_event, make_message_id, sign_event

GET = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
CLOSE = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


async def exchange(world: World, *parts: bytes) -> list[tuple[int, bytes]]:
    """Send the parts, each as a packet; return status and body of each response until the server closes."""
    reader, writer = await asyncio.open_connection(world.client.base_url.host, world.client.base_url.port)
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0.02)
    received = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    responses = []
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length")), 0)
        responses.append((int(head.split()[1]), received[:length]))
        received = received[length:]
    return responses


def build_webhook(*extra: str, chunked: bool = False, size: int = 0) -> bytes:
    body = encode_body(make_event("user.created", "user_1", public_metadata={"x": "x" * size}))
    fields = [f"{name}: {value}" for name, value in sign_event(body, make_message_id()).items()]
    if chunked:
        fields.append("transfer-encoding: chunked")
        chunks = [body[start : start + 50] for start in range(0, len(body), 50)]
        body = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
        body += b"0\r\nx-trailer: 1\r\nsvix-id: msg_of_the_trailer\r\n\r\n"
    else:
        fields.append(f"content-length: {len(body)}")
    return "\r\n".join(["POST /webhooks/clerk HTTP/1.1", "host: x", *fields, *extra, "", ""]).encode() + body


UPGRADES = {
    "h2c": ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABk"),
    "websocket": ("connection: upgrade", "upgrade: websocket"),
    "several": ("connection: keep-alive, Upgrade", "upgrade: h2c, foo/2"),
}


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [1, 100, 100_000])
@pytest.mark.parametrize("upgrade", UPGRADES)
async def test_an_upgrade_is_ignored_and_the_body_kept(world: World, upgrade: str, size: int, *, chunked: bool) -> None:
    """The clients of the JDK, Spring and Ktor offer h2c; the body was lost, however it was split into packets."""
    sent = build_webhook(*UPGRADES[upgrade], chunked=chunked) + CLOSE
    if size == 1:
        sent, size = sent[:400] + sent[400:], 97
    responses = await exchange(world, *(sent[start : start + size] for start in range(0, len(sent), size)))
    assert responses == [(200, b'{"outcome":"applied"}'), (200, b'{"status":"ok"}')]
    assert await world.get_user("user_1")


async def test_an_upgrade_without_a_body_is_ignored(world: World) -> None:
    upgrade = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: h2c\r\n\r\n"
    assert [status for status, _ in await exchange(world, upgrade + upgrade + CLOSE)] == [200, 200, 200]


async def test_a_body_with_chunks_and_trailers_is_read(world: World) -> None:
    """Fields of the trailer section do not replace those of the head."""
    assert await exchange(world, build_webhook(chunked=True) + CLOSE) == [
        (200, b'{"outcome":"applied"}'),
        (200, b'{"status":"ok"}'),
    ]


async def test_each_of_many_pipelined_requests_gets_its_response(world: World) -> None:
    assert [status for status, _ in await exchange(world, GET * 2000 + CLOSE)] == [200] * 2001


@pytest.mark.parametrize("size", [1_000, 200_000])
async def test_pipelined_bodies_are_kept(world: World, size: int) -> None:
    outcomes = await exchange(world, b"".join(build_webhook(size=size) + GET for _ in range(10)) + CLOSE)
    assert outcomes == [(200, b'{"outcome":"applied"}'), (200, b'{"status":"ok"}')] * 10 + [(200, b'{"status":"ok"}')]


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_a_target_may_have_another_form(world: World, method: str) -> None:
    for target in ("http://x/healthz", "http://x/healthz?a=b", "/healthz?a", "/healthz/", "/%68ealthz"):
        request = f"{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
        assert [status for status, _ in await exchange(world, request)] == [200], target
    for request in (b"OPTIONS * HTTP/1.1", b"GET http://x HTTP/1.1"):
        assert [
            status for status, _ in await exchange(world, request + b"\r\nhost: x\r\nconnection: close\r\n\r\n")
        ] == [404]


async def test_the_body_follows_100_continue(world: World) -> None:
    head, _, body = build_webhook("expect: 100-continue", "connection: close").partition(b"\r\n\r\n")
    assert await exchange(world, head + b"\r\n\r\n", body) == [(100, b""), (200, b'{"outcome":"applied"}')]


async def test_a_refused_expectation_closes_the_connection(world: World) -> None:
    """The client sends no body after the refusal, so its next request would be read as the body."""
    head = b"POST /webhooks/clerk HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\nexpect: 100-continue\r\n\r\n"
    assert [status for status, _ in await exchange(world, head)] == [400]


async def test_a_request_follows_a_body_that_was_refused(world: World) -> None:
    refused = b"POST /webhooks/clerk HTTP/1.1\r\nhost: x\r\ncontent-length: 500000\r\n\r\n" + b"x" * 500_000
    assert [status for status, _ in await exchange(world, refused + refused + CLOSE)] == [400, 400, 200]


@pytest.mark.parametrize("separator", [", ", ",  "])
@pytest.mark.parametrize("order", [1, -1])
async def test_signatures_may_be_joined_by_a_comma_or_repeated(world: World, separator: str, order: int) -> None:
    """A proxy joins repeated lines by a comma; a sender may repeat the line."""
    body = encode_body(make_event("user.created", "user_1"))
    headers = sign_event(body, make_message_id())
    signatures = [headers["svix-signature"], "v1,QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="][::order]
    assert (await world.post(body, headers | {"svix-signature": separator.join(signatures)})).status_code == 200
    repeated = [(name, value) for name, value in headers.items() if name != "svix-signature"]
    repeated += [("svix-signature", signature) for signature in signatures]
    response = await world.client.post("/webhooks/clerk", content=body, headers=repeated)
    assert (response.status_code, response.json()) == (200, {"outcome": "duplicate"})


LIMITS = {
    "a head of 65 KiB": (b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 65 * 1024 + b"\r\n\r\n", 431),
    "an endless head": (b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 500_000, 431),
    "an endless URL": (b"GET /" + b"a" * 500_000, 431),
    "101 fields": (b"GET / HTTP/1.1\r\n" + b"x: 1\r\n" * 101 + b"\r\n", 431),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 100, 400),
    "an unknown method": (b"FOO / HTTP/1.1\r\nhost: x\r\n\r\n", 501),
    "a method in lower case": (b"get / HTTP/1.1\r\nhost: x\r\n\r\n", 501),
    "a tunnel": (b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n", 501),
    "two lengths": (b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx", 400),
    "length and chunks": (b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
}


@pytest.mark.parametrize("limit", LIMITS)
async def test_a_request_beyond_a_limit_is_a_problem_and_closes(world: World, limit: str) -> None:
    sent, expected = LIMITS[limit]
    [(status, body)] = await exchange(world, sent)
    assert status == expected
    assert json.loads(body)["status"] == expected
    [before, (status, _)] = await exchange(world, GET + sent)
    assert (before, status) == ((200, b'{"status":"ok"}'), expected)


@pytest.mark.parametrize("size", [60 * 1024, 64 * 1024 - 100])
async def test_a_head_within_the_limits_is_read(world: World, size: int) -> None:
    fields = b"".join(b"x-%d: 1\r\n" % number for number in range(97))
    long = b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: " + b"a" * size + b"\r\nconnection: close\r\n\r\n"
    assert [status for status, _ in await exchange(world, long)] == [200]
    many = b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + fields + b"connection: close\r\n\r\n"
    assert [status for status, _ in await exchange(world, many)] == [200]


async def test_an_unsigned_request_is_refused_before_its_body(world: World) -> None:
    """The response arrives although the body never does."""
    reader, writer = await asyncio.open_connection(world.client.base_url.host, world.client.base_url.port)
    writer.write(b"POST /webhooks/clerk HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n")
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 400")
    writer.close()
