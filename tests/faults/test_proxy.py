"""The proxy delays, holds and closes connections as requested."""

import asyncio
import contextlib

import pytest

from tests.faults.proxy import run_proxy


async def test_the_proxy_holds_and_closes_connections() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionResetError):
            while data := await reader.read(100):
                writer.write(data)
        writer.close()

    listener = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with run_proxy(listener.sockets[0].getsockname()[1]) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"1")
        assert await asyncio.wait_for(reader.readexactly(1), 5) == b"1"
        proxy.hold(requests=False)
        writer.write(b"2")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.3)
        proxy.forward_all()
        assert await asyncio.wait_for(reader.readexactly(1), 5) == b"2"
        assert proxy.abort_connections(reset=True) == 1
        with pytest.raises(OSError, match="reset"):
            await asyncio.wait_for(reader.readexactly(1), 5)
        writer.close()
    listener.close()
