"""One connection within limits: its deadlines, its last response, the time in which a client reads.

The limits hold for callers that are not authenticated. They cost a comparison for each request.
"""

import asyncio
from typing import cast

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from sync_service.web.connections import ConnectionLimits, Peer, find_caller
from sync_service.web.problems import problem
from sync_service.web.transport import CoalescingTransport

HEAD_TIMEOUT = 10.0

# A client that reads no responses is disconnected.
WRITE_TIMEOUT = 10.0

_limits: ConnectionLimits | None = None


class LimitedConnection(HttpToolsProtocol):
    """uvicorn's connection with limits. web/protocol.py parses its requests."""

    # The last request whose head is complete. uvicorn declares it without None.
    cycle: RequestResponseCycle | None  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own type
        """Wrap the transport of a new connection, or refuse the connection."""
        super().connection_made(cast("asyncio.Transport", CoalescingTransport(transport)))
        self.flow = self._flow = HeldFlow(self.transport)
        self._refused = self._reading_head = False
        self._body_bytes = 0
        self._problem: tuple[int, str, str] | None = None  # the last response
        self._stalled: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = self.loop.call_later(HEAD_TIMEOUT, self._time_out)
        self._address = find_caller(self.client[0]) if self.client else ""
        self._limits = _get_limits()
        self._peer: Peer | None = self._limits.add(self._address, self)
        if self._peer is None:
            self._refuse(503, "unavailable", "Too many connections")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        for timer in (self._deadline, self._stalled, self.timeout_keep_alive_task):
            if timer:
                timer.cancel()
        if self.cycle:
            self.cycle.body.clear()  # protocol and cycle refer to each other, and garbage collection is rare
        if self._peer:
            self._limits.remove(self._address, self._peer, self, self._body_bytes)
            self._peer = None

    def pause_writing(self) -> None:
        """Give the client some time to read its responses."""
        super().pause_writing()
        self._stalled = self.loop.call_later(WRITE_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        """Continue to write."""
        super().resume_writing()
        if self._stalled:
            self._stalled.cancel()

    def close_idle(self) -> None:
        """Close the connection while it waits for a request."""
        self._refused = True
        self.transport.close()

    def _set_deadline(self, *, is_set: bool) -> None:
        if self._deadline:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(HEAD_TIMEOUT, self._time_out) if is_set else None

    def _time_out(self) -> None:
        if self._reading_head and not self._refused:
            self._refuse(408, "slow_head", "The request head did not arrive in time")
        elif self._refused or self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _refuse(self, status: int, code: str, title: str) -> None:
        """Respond with an error and close the connection; earlier requests still get their responses."""
        if self._refused:
            return
        self._refused = True
        cycle = self.cycle
        if cycle and not cycle.response_complete:
            if self._reading_head or self.pipeline or cycle.response_started:
                self._problem = status, code, title
                return
            cycle.disconnected = True
            cycle.message_event.set()
        if self._is_discarding:
            self.transport.close()
        else:
            self._write_problem(status, code, title)

    def _write_problem(self, status: int, code: str, title: str) -> None:
        """Write the last response. Data that still arrives is discarded: a close would reset the connection."""
        response = problem(status, code, title)
        lines = [name + b": " + value for name, value in [*response.raw_headers, (b"connection", b"close")]]
        head = STATUS_LINE[status] + b"\r\n".join(lines) + b"\r\n\r\n"
        self.transport.write(head + bytes(response.body))
        self.transport.write_eof()
        self._unset_keepalive_if_required()
        self._set_deadline(is_set=True)

    def _wait_for_request(self) -> None:
        if self._peer and not self._reading_head:
            self._peer.waiting[self] = None
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _discard_body(self) -> None:
        """Read the rest of a body whose response is complete, within the limits of a request head."""
        if self.expect_100_continue:
            self.transport.close()  # the client sends no body, so the next request would be taken for it
        else:
            self._unset_keepalive_if_required()
            self._set_deadline(is_set=True)

    @property
    def _is_discarding(self) -> bool:
        """Whether the response is complete and the body is not."""
        cycle = self.cycle
        return cycle is not None and cycle.response_complete and cycle.more_body


class HeldFlow(FlowControl):
    """Reading stays paused while received data waits to be parsed."""

    _is_held = False

    def hold(self, *, is_held: bool) -> None:
        """Pause reading, or resume it if it was paused by this method."""
        if is_held:
            self._is_held = True
            self.pause_reading()
        elif self._is_held:
            self._is_held = False
            self.resume_reading()

    def resume_reading(self) -> None:
        """Resume reading unless received data waits."""
        if not self._is_held:
            super().resume_reading()


def _get_limits() -> ConnectionLimits:
    """Return the limits of this process; its limit of descriptors is known once it serves."""
    global _limits  # noqa: PLW0603  uvicorn creates each protocol without arguments of ours
    if _limits is None:
        _limits = ConnectionLimits()
    return _limits
