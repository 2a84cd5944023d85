"""A proxy in front of PostgreSQL that simulates a bad network: slow, cut, reset or silent."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

CHUNK = 65_536


class Proxy:
    """Forwards bytes between its own port and a port or Unix socket; settings affect old and new connections."""

    def __init__(self, target: int | str) -> None:
        self.target = target
        self.port = 0
        self.delay = 0.0
        self.accepted = 0
        self.connections: set[asyncio.StreamWriter] = set()
        self.silent: set[asyncio.StreamWriter] = set()
        self.forwarding: set[asyncio.Task[None]] = set()
        self._requests = asyncio.Event()
        self._responses = asyncio.Event()
        self.forward_all()

    def forward_all(self) -> None:
        """Forward everything again without delay, also the data held so far."""
        self.delay = 0
        self._requests.set()
        self._responses.set()

    def hold(self, *, requests: bool = True, responses: bool = True) -> None:
        """Hold all data in these directions without closing connections, like a network that drops packets."""
        if requests:
            self._requests.clear()
        if responses:
            self._responses.clear()

    def silence_connections(self) -> int:
        """Drop all later data of the open connections, and forward new ones, like a firewall that forgot its state."""
        self.silent |= self.connections
        return len(self.silent) // 2

    def abort_connections(self, *, reset: bool = False) -> int:
        """Close every connection, with or without a reset; return their number."""
        ended = len(self.connections)
        for writer in self.connections:
            if reset:
                raw: socket.socket = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self.connections.clear()
        return ended // 2

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Accept a connection."""
        self.accepted += 1
        task = asyncio.create_task(self._forward_connection(reader, writer))
        self.forwarding.add(task)
        task.add_done_callback(self.forwarding.discard)

    async def _forward_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        with contextlib.suppress(OSError):
            other_reader, other_writer = await self._connect()
            self.connections.add(other_writer)
            await asyncio.gather(
                self._forward(reader, other_writer, self._requests),
                self._forward(other_reader, writer, self._responses),
            )
        writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.target, str):
            return await asyncio.open_unix_connection(self.target)
        return await asyncio.open_connection("127.0.0.1", self.target)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                await asyncio.sleep(self.delay)
                await gate.wait()
                if writer.is_closing():  # closed meanwhile
                    break
                if writer not in self.silent:
                    writer.write(data)
                    await writer.drain()
        writer.transport.abort()
        self.connections.discard(writer)
        self.silent.discard(writer)


@contextlib.asynccontextmanager
async def run_proxy(target: int | str) -> AsyncIterator[Proxy]:
    """Run a proxy in front of that port or Unix socket within the block."""
    proxy = Proxy(target)
    listener = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = listener.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listener.close()
        proxy.forward_all()
        proxy.abort_connections()
        await asyncio.wait_for(asyncio.gather(*proxy.forwarding), 5)
