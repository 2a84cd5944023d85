"""Head and body of a response are one packet: a second one would cost both sides a system call."""

import asyncio
import socket
import struct
import sys

import pytest

from tests.world import World

# The offset of `tcpi_data_segs_in` in `struct tcp_info` of <linux/tcp.h>.
DATA_SEGMENTS_IN = 152


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts packets for each connection")
@pytest.mark.parametrize("path", ["/healthz", "/nowhere", "/webhooks/clerk"])
async def test_head_and_body_are_sent_together(world: World, path: str) -> None:
    reader, writer = await asyncio.open_connection(world.client.base_url.host, world.client.base_url.port)
    connection: socket.socket = writer.get_extra_info("socket")
    for responses in (1, 2):
        writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        [length] = [int(line.split(b":")[1]) for line in head.splitlines() if line.startswith(b"content-length")]
        assert await reader.readexactly(length)
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
        assert struct.unpack_from("I", info, DATA_SEGMENTS_IN) == (responses,)
    writer.close()
    await writer.wait_closed()


async def test_a_connection_closed_after_its_response_gets_the_whole_response(world: World) -> None:
    reader, writer = await asyncio.open_connection(world.client.base_url.host, world.client.base_url.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert (await reader.read()).endswith(b'{"status":"ok"}')
    writer.close()
    await writer.wait_closed()
