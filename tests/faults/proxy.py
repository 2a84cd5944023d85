"""A bad network in front of PostgreSQL, on demand: slow, cut, reset, black."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

CHUNK = 65_536


class Proxy:
    """Passes bytes between its own port and another; what it is told to do holds for old and new connections."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.delay = 0.0
        self.connections: set[asyncio.StreamWriter] = set()
        self.passing: set[asyncio.Task[None]] = set()
        self._requests = asyncio.Event()
        self._answers = asyncio.Event()
        self.pass_all()

    def pass_all(self) -> None:
        """Be a good network again; what was held back goes on."""
        self.delay = 0
        self._requests.set()
        self._answers.set()

    def swallow(self, *, requests: bool = True, answers: bool = True) -> None:
        """Hold everything in that direction, and say nothing: a black hole, as where packets are dropped."""
        if requests:
            self._requests.clear()
        if answers:
            self._answers.clear()

    def cut(self, *, reset: bool = False) -> int:
        """End every connection, in good manners or with a reset; return how many there were."""
        ended = len(self.connections)
        for writer in self.connections:
            if reset:
                raw: socket.socket = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self.connections.clear()
        return ended // 2

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a new connection."""
        task = asyncio.create_task(self._connected(reader, writer))
        self.passing.add(task)
        task.add_done_callback(self.passing.discard)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        with contextlib.suppress(OSError):
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.target)
            self.connections.add(other_writer)
            await asyncio.gather(
                self._pass(reader, other_writer, self._requests), self._pass(other_reader, writer, self._answers)
            )
        writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                await asyncio.sleep(self.delay)
                await gate.wait()
                if writer.is_closing():  # cut meanwhile
                    break
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
        self.connections.discard(writer)


@contextlib.asynccontextmanager
async def proxied(target: int) -> AsyncIterator[Proxy]:
    """Run a proxy in front of that port for the length of the block."""
    proxy = Proxy(target)
    listener = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = listener.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listener.close()
        proxy.pass_all()
        proxy.cut()
        await asyncio.wait_for(asyncio.gather(*proxy.passing), 5)
