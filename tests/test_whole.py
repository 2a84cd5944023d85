"""An answer is one packet, not two: each costs both sides a system call, and the caller is woken for half of it."""

import asyncio
import socket
import struct
import sys

import pytest

from tests.world import World

# <linux/tcp.h>: where `struct tcp_info` has `tcpi_data_segs_in`.
DATA_SEGMENTS_IN = 152


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts packets for each connection")
@pytest.mark.parametrize("path", ["/healthz", "/nowhere", "/webhooks/clerk"])
async def test_head_and_body_leave_together(world: World, path: str) -> None:
    reader, writer = await asyncio.open_connection(world.client.base_url.host, world.client.base_url.port)
    connection: socket.socket = writer.get_extra_info("socket")
    for answers in (1, 2):
        writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        [length] = [int(line.split(b":")[1]) for line in head.splitlines() if line.startswith(b"content-length")]
        assert await reader.readexactly(length)
        told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
        assert struct.unpack_from("I", told, DATA_SEGMENTS_IN) == (answers,)
    writer.close()
    await writer.wait_closed()


async def test_a_line_that_is_closed_after_its_answer_has_the_whole_answer(world: World) -> None:
    reader, writer = await asyncio.open_connection(world.client.base_url.host, world.client.base_url.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert (await reader.read()).endswith(b'{"status":"ok"}')
    writer.close()
    await writer.wait_closed()
