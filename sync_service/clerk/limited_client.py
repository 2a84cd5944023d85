"""An HTTP client that reads responses up to a limit: no server can fill the memory of the process."""

from typing import Any

import httpx2

# A list has at most 500 users. The limit holds for the decompressed body: 64 kB of gzip can be 66 MB.
MAX_RESPONSE_BYTES = 64 * 1024 * 1024


class ResponseTooLarge(httpx2.RequestError):
    """The body of a response has more than `MAX_RESPONSE_BYTES`."""


class LimitedClient(httpx2.AsyncClient):
    """Raises `ResponseTooLarge` for a longer body. A request must not stream its response."""

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request and read its response."""
        response = await super().send(request, **options | {"stream": True})
        try:
            parts, size = [], 0
            async for part in response.aiter_bytes():
                parts.append(part)
                size += len(part)
                if size > MAX_RESPONSE_BYTES:
                    raise ResponseTooLarge(f"more than {MAX_RESPONSE_BYTES} bytes", request=request)
        finally:
            await response.aclose()
        headers = response.headers.copy()
        headers.pop("content-encoding", None)  # the parts are decompressed
        return httpx2.Response(response.status_code, headers=headers, content=b"".join(parts), request=request)
