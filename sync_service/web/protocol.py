"""uvicorn's HTTP protocol with limits on each connection, and with one packet per response.

The limits hold for callers that are not authenticated. They cost a comparison for each request.
"""

import asyncio
from typing import cast

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from sync_service.web.connections import ConnectionLimits, Peer
from sync_service.web.problems import problem
from sync_service.web.transport import CoalescingTransport

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADER_FIELDS = 100
HEAD_TIMEOUT = 10.0

# The limit of a body that is kept is in body.py. A longer one is discarded up to here, so that its client can read the
# response: a close would reset the connection.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024

# A client that reads no responses is disconnected.
WRITE_TIMEOUT = 10.0

# A read returns up to 256 KiB, which can be thousands of pipelined requests. They are parsed in parts of this size, and
# the next part waits until the requests before it have their responses.
PART_BYTES = 2048

_limits: ConnectionLimits | None = None


class LimitedProtocol(HttpToolsProtocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own type
        """Wrap the transport of a new connection, or refuse the connection."""
        super().connection_made(cast("asyncio.Transport", CoalescingTransport(transport)))
        self.flow = self._flow = _Flow(self.transport)
        self._rest = b""
        self._refused = self._reading_head = self._replaying = False
        self._received = self._part_bytes = self._body_bytes = 0
        self._head_bytes = 0  # bytes since the start of the request or its last body part: its head or its trailers
        self._problem: tuple[int, str, str] | None = None  # the last response
        self._stalled: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = self.loop.call_later(HEAD_TIMEOUT, self._time_out)
        self._address = self.client[0] if self.client else ""
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
        self._rest = b""
        if self._last_cycle:
            self._last_cycle.body.clear()  # protocol and cycle refer to each other, and garbage collection is rare
        if self._peer:
            self._limits.remove(self._address, self._peer, self, self._body_bytes)
            self._peer = None

    def data_received(self, data: bytes) -> None:
        """Parse the data, or keep it until earlier requests have their responses."""
        if not self._refused:
            self._rest = self._rest + data if self._rest else data
            self._parse_rest()
        elif self._received < MAX_MESSAGE_BYTES:
            self._received += len(data)
        else:
            self.transport.abort()

    def _parse_rest(self) -> None:
        self._unset_keepalive_if_required()
        data, start = self._rest, 0
        while start < len(data) and not self.pipeline and not self._refused:
            part = data[start : start + PART_BYTES]
            start += PART_BYTES
            self._parse(part)
        self._rest = b"" if self._refused else data[start:]
        self._flow.hold(is_held=bool(self._rest))
        has_deadline = self._reading_head or self._is_discarding
        if has_deadline != bool(self._deadline) and not self._refused:
            self._set_deadline(is_set=has_deadline)

    def _parse(self, part: bytes) -> None:
        self._part_bytes = len(part)
        self._received += len(part)
        self._head_bytes += len(part)
        try:
            self.parser.feed_data(part)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade()
            if rest := part[upgrade.args[0] :]:
                self._received -= len(rest)
                self._head_bytes -= len(rest)
                self._parse(rest)
        except httptools.HttpParserError:
            self._refuse(400, "bad_request", "The request is not HTTP")
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431, "head_too_large", "The request head is too large")
        elif self._received > MAX_MESSAGE_BYTES:
            self._refuse(413, "body_too_large", "The body is too large")

    # --- the parser's callbacks

    def on_message_begin(self) -> None:
        """Start a request."""
        if not self._replaying:
            super().on_message_begin()
            self._received = self._head_bytes = self._part_bytes
            self._reading_head = True

    def on_url(self, url: bytes) -> None:
        """Collect the URL."""
        if not self._replaying:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header field; trailer fields are ignored."""
        if not self._reading_head:
            return
        if len(self.headers) >= MAX_HEADER_FIELDS:
            self._refuse(431, "head_too_large", "The request head has too many fields")
            return
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request's task."""
        if self._replaying or self._refused:
            return
        if self._head_bytes > MAX_HEAD_BYTES and self._measure_head() > MAX_HEAD_BYTES:
            self._refuse(431, "head_too_large", "The request head is too large")
            return
        self._reading_head = False
        if not self.url.startswith(b"/"):
            self.url = _find_path(self.url)
        if self._peer:
            self._peer.waiting.pop(self, None)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Collect a part of the body."""
        self._head_bytes = 0
        if self._refused:
            return
        super().on_body(body)
        if self._peer and not self.cycle.response_complete:
            self._body_bytes += len(body)
            if not self._limits.hold_body(self._peer, len(body)):
                self._refuse(503, "unavailable", "Too many bodies at the same time")

    def on_message_complete(self) -> None:
        """End the request. For a request with `Upgrade`, the parser calls this before the body."""
        if self._refused or (self.parser.should_upgrade() and not self._replaying):
            return
        if self._is_discarding:
            self.cycle.more_body = False
            self._wait_for_request()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Continue with the next request."""
        if self._peer and self._body_bytes:
            self._limits.release_body(self._peer, self._body_bytes)
            self._body_bytes = 0
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self.cycle.response_complete:
            self._finish_last_request()
        if self._rest and not self.pipeline:
            self._parse_rest()

    def _finish_last_request(self) -> None:
        self.cycle.body.clear()
        if self._problem:
            self._write_problem(*self._problem)
        elif self._is_discarding:
            self._discard_body()
        else:
            self._wait_for_request()

    @property
    def _last_cycle(self) -> RequestResponseCycle | None:
        """The last request whose head is complete; uvicorn declares it without None."""
        return self.cycle

    @property
    def _is_discarding(self) -> bool:
        """Whether the response is complete and the body is not."""
        cycle = self._last_cycle
        return cycle is not None and cycle.response_complete and cycle.more_body

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

    # --- limits

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
        elif self._refused or self._last_cycle is None or self._last_cycle.response_complete:
            self.transport.close()

    def _refuse(self, status: int, code: str, title: str) -> None:
        """Respond with an error and close the connection; earlier requests still get their responses."""
        if self._refused:
            return
        self._refused = True
        cycle = self._last_cycle
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

    def _measure_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _ignore_upgrade(self) -> None:
        """Continue in HTTP/1.1 after a request with `Upgrade`, as RFC 9110 allows.

        The parser ends such a request before its body. A new parser gets the fields that delimit the body.
        """
        framing = [
            name + b": " + value for name, value in self.headers if name in {b"content-length", b"transfer-encoding"}
        ]
        self.parser = httptools.HttpRequestParser(self)
        self._replaying = True
        self.parser.feed_data(b"\r\n".join([b"POST / HTTP/1.1", *framing, b"", b""]))
        self._replaying = False


class _Flow(FlowControl):
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


def _find_path(url: bytes) -> bytes:
    """Return the path and query of a target in absolute form, or of `*`."""
    if url == b"*":
        return b"/*"
    parts = httptools.parse_url(url)
    return (parts.path or b"/") + (b"?" + parts.query if parts.query else b"")
