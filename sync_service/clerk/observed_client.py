"""An HTTP client that reports each request to Clerk's Backend API, and traces it."""

import asyncio
import contextlib
from collections.abc import Callable, MutableMapping
from typing import Any

import httpx2

from sync_service.clerk.limited_client import LimitedClient

TraceCall = Callable[[MutableMapping[str, str]], contextlib.AbstractContextManager[object]]


class ObservedClient(LimitedClient):
    """Reports requests to `api_url` by outcome, including their repetitions after a broken connection."""

    def __init__(
        self, api_url: str, on_request: Callable[[str], None], trace_call: TraceCall = contextlib.nullcontext
    ) -> None:
        """Call `on_request` with each outcome; send each request within `trace_call` of its headers."""
        super().__init__()
        self._api_url = api_url
        self._on_request = on_request
        self._trace_call = trace_call

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request and report it."""
        if not str(request.url).startswith(self._api_url):
            return await super().send(request, **options)
        outcome = "network_error"
        try:
            with self._trace_call(request.headers):
                response = await super().send(request, **options)
            outcome = classify_status(response.status_code)
        except (httpx2.TimeoutException, asyncio.CancelledError):  # a caller with a time limit cancels the request
            outcome = "timeout"
            raise
        finally:
            self._on_request(outcome)
        return response


def classify_status(status: int) -> str:
    """Return the outcome of a request with this status."""
    match status:
        case 404:
            return "not_found"
        case 401 | 403:
            return "auth_error"
        case 429:
            return "rate_limited"
        case _ if status >= 500:
            return "server_error"
        case _:
            return "ok" if status < 400 else "refused"
