"""The app's endpoint for notifications, in a process of its own.

It accepts each request. `GET /` returns the time of each change, `GET /count` their number. It parses only the length
and the ID of a request, so that the cores are left to the measured processes.
"""

import asyncio
import re
import sys
import time
from typing import cast

import msgspec
import uvloop

from sync_service.process import die_with_parent

ACCEPTED = b"HTTP/1.1 204 No Content\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ID = re.compile(rb"\r\nwebhook-id: *chg_([0-9-]+)", re.IGNORECASE)


class _Receiver(asyncio.Protocol):
    """One connection. `arrivals` has the time of each change by its ID, and is shared by all connections."""

    def __init__(self, arrivals: dict[str, float]) -> None:
        self._arrivals = arrivals
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, end, rest = self._got.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not end or (length and len(rest) < int(length[1])):
            return
        self._got = b""
        if message_id := _ID.search(head):
            self._arrivals[message_id[1].decode()] = time.time()
            self._transport.write(ACCEPTED)
        else:
            body = msgspec.json.encode(len(self._arrivals) if b" /count " in head else self._arrivals)
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))


async def _serve(port: int) -> None:
    arrivals: dict[str, float] = {}
    server = await asyncio.get_running_loop().create_server(lambda: _Receiver(arrivals), "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    """Serve on the port of the first argument."""
    die_with_parent()
    uvloop.run(_serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
