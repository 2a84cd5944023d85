"""Request bodies: reading within limits of size and time, decoding of JSON and of forms."""

import asyncio
from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request

from sync_service.request_errors import BadRequest, BodyTooLarge, SlowBody

T = TypeVar("T")

# Svix sends up to 350 kB.
MAX_BODY_BYTES = 1024 * 1024

_TOO_LARGE = "The body exceeds 1 MiB."

MAX_FORM_FIELDS = 30

_TIMED_OUT = "the body timed out"


async def read_body(request: Request, seconds: float) -> bytes:
    """Return the body's bytes.

    Raises `BodyTooLarge` before it reads more than the limit, or `SlowBody` after so many seconds.
    """
    # A dict is faster: Starlette's `Headers` scans all headers for each name.
    declared = dict(request.scope["headers"]).get(b"content-length", b"")
    if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        raise BodyTooLarge(_TOO_LARGE)
    chunks: list[bytes] = []
    size = 0
    more = True
    task = asyncio.current_task()
    assert task  # noqa: S101  a coroutine always runs in a task
    # A plain timer: `asyncio.timeout` costs four times as much, and every webhook passes here.
    timer = asyncio.get_running_loop().call_later(seconds, task.cancel, _TIMED_OUT)
    try:
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise SlowBody("The client disconnected before the end of the body.")
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > MAX_BODY_BYTES:
                raise BodyTooLarge(_TOO_LARGE)
            more = message.get("more_body", False)
    except asyncio.CancelledError as cancelled:
        if cancelled.args != (_TIMED_OUT,) or task.uncancel():  # another caller cancelled the task too
            raise
        raise SlowBody(f"The body did not arrive within {seconds:g} s.") from None
    finally:
        timer.cancel()
    return b"".join(chunks)


def decode_body(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Return the body decoded from JSON. Raises `BadRequest`."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise BadRequest(f"The body does not have the form that this route takes: {error}.") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadRequest("The body is not JSON in UTF-8.") from None


async def read_form(request: Request, seconds: float) -> dict[str, str]:
    """Return the fields of an HTML form. Raises `BadRequest`, `BodyTooLarge` or `SlowBody`."""
    body = await read_body(request, seconds)
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS))
    except ValueError:
        raise BadRequest("The body is not a form.") from None
