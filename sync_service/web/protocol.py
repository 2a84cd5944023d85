"""uvicorn's HTTP/1.1 protocol: requests within limits of their size, pipelined or with `Upgrade`."""

import asyncio

import httptools
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from sync_service.web.limited_connection import LimitedConnection
from sync_service.web.request_line import find_path, has_unknown_method

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADER_FIELDS = 100

# The limit of a body that is kept is in body.py. A longer one is discarded up to here, so that its client can read the
# response: a close would reset the connection.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024

# A read returns up to 256 KiB, which can be thousands of pipelined requests. They are parsed in parts of this size, and
# the next part waits until the requests before it have their responses. Most webhooks are a single part.
PART_BYTES = 4096

_NOT_HTTP = 400, "bad_request", "The request is not HTTP/1.1"

_UNKNOWN_METHOD = 501, "not_implemented", "The service does not know this method"


class LimitedProtocol(LimitedConnection):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own type
        """Begin a connection."""
        self._rest = b""
        self._replaying = False
        self._received = self._part_bytes = 0
        self._head_bytes = 0  # bytes since the start of the request or its last body part: its head or its trailers
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection and its data."""
        super().connection_lost(exc)
        self._rest = b""

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
        except httptools.HttpParserInvalidMethodError:
            self._refuse(*_UNKNOWN_METHOD if has_unknown_method(part) else _NOT_HTTP)
        except httptools.HttpParserError:
            self._refuse(*_NOT_HTTP)
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
        # As uvicorn does. A call of its method for each field would take longer than the method.
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Start the request's task."""
        if self._replaying or self._refused:
            return
        if self._head_bytes > MAX_HEAD_BYTES and self._measure_head() > MAX_HEAD_BYTES:
            self._refuse(431, "head_too_large", "The request head is too large")
            return
        if self.parser.get_method() == b"CONNECT":  # its target is no URL
            self._refuse(*_UNKNOWN_METHOD)
            return
        self._reading_head = False
        if not self.url.startswith(b"/"):
            self.url = find_path(self.url)
        if self._peer:
            self._peer.waiting.pop(self, None)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Collect a part of the body."""
        self._head_bytes = 0
        if self._refused:
            return
        super().on_body(body)
        if self._peer and self.cycle and not self.cycle.response_complete:
            self._body_bytes += len(body)
            if not self._limits.hold_body(self._peer, len(body)):
                self._refuse(503, "unavailable", "Too many bodies at the same time")

    def on_message_complete(self) -> None:
        """End the request. For a request with `Upgrade`, the parser calls this before the body."""
        if self._refused or (self.parser.should_upgrade() and not self._replaying):
            return
        if self.cycle and self._is_discarding:
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
        if self.cycle and self.cycle.response_complete:
            self._finish_last_request(self.cycle)
        if self._rest and not self.pipeline:
            self._parse_rest()

    def _finish_last_request(self, cycle: RequestResponseCycle) -> None:
        cycle.body.clear()
        if self._problem:
            self._write_problem(*self._problem)
        elif cycle.more_body:
            self._discard_body()
        else:
            self._wait_for_request()

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
