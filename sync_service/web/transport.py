"""One packet per response: uvicorn writes headers and body separately, and each write would be a packet of its own."""

import asyncio
from typing import Any


class CoalescingTransport:
    """Holds back a first write until the second one, or until the event loop's next iteration."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.is_closing = transport.is_closing  # asked twice for each request: `__getattr__` is slow
        self._loop = asyncio.get_running_loop()
        self._pending: list[bytes] = []
        self._is_ended = False

    def write(self, data: bytes) -> None:
        """Write with the next data, or soon."""
        self._pending.append(data)
        if len(self._pending) == 1:
            self._loop.call_soon(self._flush)
        else:
            self._flush()

    def write_eof(self) -> None:
        """End the output after all data is written."""
        self._flush()
        if not self._is_ended and not self._transport.is_closing():
            self._is_ended = True
            self._transport.write_eof()

    def close(self) -> None:
        """Close after all data is written."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._pending:
            # uvloop raises an error for a write to a closed transport; its client is gone.
            if not self._is_ended and not self._transport.is_closing():
                self._transport.write(b"".join(self._pending))
            self._pending.clear()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
