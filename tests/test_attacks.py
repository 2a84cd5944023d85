"""Callers without authentication use a bounded part of memory and connections, and others are still served."""

import asyncio
import contextlib
import resource
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from tests.faults.fault_run import ROUNDS
from tests.processes import Process, start_command
from tests.world import SECRET, encode_body, make_event, make_message_id, sign_event, wait_until

MIB = 1024 * 1024
MAX_GROWTH_DURING = 150 * MIB
MAX_GROWTH_AFTER = 50 * MIB

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc and 127.0.0.9")

Connections = list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]


@contextlib.asynccontextmanager
async def serve(tmp_path: Path, database: str) -> AsyncIterator[Process]:
    """Run `serve` with the usual limit of descriptors; this process gets more, because it is the attacker."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    environ = {"DATABASE_URL": database, "CLERK_WEBHOOK_SIGNING_SECRET": SECRET, "LOG_LEVEL": "error"}
    with start_command("serve", cwd=tmp_path, **environ) as service:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        try:
            await wait_until(lambda: is_served(service.port))
            yield service
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def is_served(port: int) -> bool:
    try:
        async with httpx2.AsyncClient(timeout=30) as client:
            return (await client.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200
    except httpx2.TransportError:
        return False


def read_resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


async def deliver(port: int) -> int:
    body = encode_body(make_event("user.created", "user_1"))
    async with httpx2.AsyncClient(timeout=30) as client:
        url = f"http://127.0.0.1:{port}/webhooks/clerk"
        return (await client.post(url, content=body, headers=sign_event(body, make_message_id()))).status_code


async def open_connections(port: int, count: int) -> Connections:
    opened = []
    for _ in range(count):
        with contextlib.suppress(OSError):
            opened.append(await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.9", 0)))
    return opened


async def send(connections: Connections, data: bytes, *, times: int, seconds: float = 20) -> None:
    """Write the data to each connection so many times, as far as the service reads it within the time."""

    async def write(writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            for _ in range(times):
                writer.write(data)
                await writer.drain()

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.gather(*(write(writer) for _, writer in connections))


def build_post(path: str, size: int, **headers: str) -> bytes:
    fields = {"host": "x", "content-length": str(size)} | headers
    return "\r\n".join([f"POST {path} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items()), "", ""]).encode()


def plausible_headers() -> dict[str, str]:
    signature = "v1," + "A" * 43 + "="
    return {"svix-id": make_message_id(), "svix-timestamp": str(int(time.time())), "svix-signature": signature}


# The data of each connection, how often it is sent, and the number of connections.
ATTACKS: dict[str, tuple[bytes, int, int]] = {
    "pipelined requests, responses unread": (b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n" * 2000, 100, 100),
    "100 MB of headers": (b"GET / HTTP/1.1\r\n" + b"x: 1\r\n" * 200_000, 20, 8),
    "one endless header": (b"GET / HTTP/1.1\r\nx: " + b"x" * MIB, 20, 8),
    "an endless URL": (b"GET /" + b"x" * MIB, 20, 8),
    "endless trailers": (
        b"POST /webhooks/clerk HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * 100_000,
        20,
        8,
    ),
    "one endless trailer": (
        b"POST /webhooks/clerk HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: " + b"x" * 20 * MIB,
        1,
        8,
    ),
    "unsigned bodies": (build_post("/webhooks/clerk", MIB) + b"x" * (MIB - 1), 1, 1000),
    "bodies with invented signatures": (
        build_post("/webhooks/clerk", MIB, **plausible_headers()) + b"x" * (MIB - 1),
        1,
        1000,
    ),
    "half-open heads": (b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"x" * 60_000, 1, 1100),
    "idle connections": (b"", 1, 1100),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_an_attack_is_bounded_and_others_are_served(tmp_path: Path, database: str, attack: str) -> None:
    """The resident size stays within 150 MB during the attack and 50 MB after it; webhooks of others are applied."""
    data, times, count = ATTACKS[attack]
    async with serve(tmp_path, database) as service:
        pid = service.popen.pid
        assert await deliver(service.port) == 200
        before = peak = read_resident_bytes(pid)
        delivered = []
        for _ in range(ROUNDS):
            connections = await open_connections(service.port, count)
            attacking = asyncio.create_task(send(connections, data, times=times))
            while not attacking.done():
                delivered.append(await deliver(service.port))
                peak = max(peak, read_resident_bytes(pid))
                await asyncio.sleep(0.05)
            delivered.append(await deliver(service.port))
            for _, writer in connections:
                writer.transport.abort()
        print(f"{attack}: peak {(peak - before) / MIB:.0f} MiB, {len(delivered)} delivered")
        await wait_until(lambda: read_resident_bytes(pid) - before < MAX_GROWTH_AFTER, 30)
        assert set(delivered) == {200}
        assert peak - before < MAX_GROWTH_DURING
