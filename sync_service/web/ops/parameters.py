"""Query parameters of the operators' interface → filters and limits (pure). An unknown parameter is an error."""

import re
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.datastructures import QueryParams

from sync_service.request_errors import BadRequest
from sync_service.store.event_cursor import EventPosition, decode_cursor
from sync_service.store.event_filter import STATUSES, FailurePlace, Filter
from sync_service.web.operation import Parameter

DEFAULT_LIMIT = 50
MAX_LIMIT = 1000
MAX_TEXT = 255

LIMIT = Parameter("limit", "The maximum number of entries", Annotated[int, Meta(ge=1, le=MAX_LIMIT)])

_Time = Annotated[datetime, Meta(tz=True)]


def read_parameters(query: QueryParams, names: Collection[str]) -> dict[str, str]:
    """Return the parameters that are not empty. Raises `BadRequest` for an unknown or a repeated one."""
    given = query.multi_items()
    for name, _ in given:
        if name not in names:
            known = ", ".join(sorted(names)) or "none"
            raise BadRequest(f"The request has an unknown parameter. Known parameters: {known}.")
        if len(query.getlist(name)) > 1:
            raise BadRequest(f"The parameter {name} is given more than once.")
    return {name: text for name, text in given if text}


def parse_filter(given: dict[str, str]) -> Filter:
    """Return the filter of the parameters. Raises `BadRequest`."""
    return build_filter(
        status=given.get("status"),
        type=given.get("type"),
        clerk_id=given.get("clerk_id"),
        reason=given.get("reason"),
        since=_parse_time("since", given.get("since")),
        until=_parse_time("until", given.get("until")),
    )


def parse_form_filter(form: dict[str, str]) -> Filter:
    """Return the filter of a form, where the fields of a place come together. Raises `BadRequest` for an empty one."""
    selected = parse_filter({name: text for name, text in form.items() if text})
    if "table" in form:
        place = FailurePlace(*(form.get(name) or None for name in ("table", "column", "constraint")))
        selected = replace(selected, place=place)
    if selected == Filter():
        raise BadRequest("Choose a filter first, such as a status: without one, all events would be replayed.")
    return selected


def build_filter(
    *,
    status: str | None,
    type: str | None,  # noqa: A002  the parameter's own name
    clerk_id: str | None,
    reason: str | None,
    since: datetime | None,
    until: datetime | None,
) -> Filter:
    """Return a filter whose texts PostgreSQL can compare. Raises `BadRequest`."""
    if status not in {None, *STATUSES}:
        raise BadRequest(f"status is one of {', '.join(STATUSES)}.")
    for name, text in (("type", type), ("clerk_id", clerk_id), ("reason", reason)):
        if text is not None and not (0 < len(text) <= MAX_TEXT and text.isprintable()):
            raise BadRequest(f"{name} is not a text of 1 to {MAX_TEXT} printable characters.")
    return Filter(status, type, clerk_id, since=_to_utc("since", since), until=_to_utc("until", until), reason=reason)


def parse_limit(text: str | None) -> int:
    """Return the maximum number of entries. Raises `BadRequest`."""
    if text is None:
        return DEFAULT_LIMIT
    if re.fullmatch(r"[0-9]{1,4}", text) and 1 <= int(text) <= MAX_LIMIT:
        return int(text)
    raise BadRequest(f"limit is a number from 1 to {MAX_LIMIT}.")


def parse_cursor(text: str | None) -> EventPosition | None:
    """Return the position of the cursor, None for the first page. Raises `BadRequest`."""
    try:
        return decode_cursor(text) if text else None
    except ValueError:
        raise BadRequest("cursor is not the next_cursor of an earlier response.") from None


def parse_dry_run(query: QueryParams) -> bool:
    """Return whether only a preview is wanted. Raises `BadRequest` for anything but `true` or `false`."""
    read_parameters(query, {"dry_run"})
    text = query.get("dry_run", "false")
    if text not in {"true", "false"}:
        raise BadRequest("dry_run is true or false.")
    return text == "true"


def _parse_time(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        # In a URL, `+` stands for a blank: the offset of a time that was not encoded has lost it.
        return msgspec.convert(re.sub(r" (?=[0-9]{2}:[0-9]{2}$)", "+", text), _Time)
    except msgspec.ValidationError:
        raise BadRequest(f"{name} is not a time of RFC 3339, such as 2026-01-31T12:00:00Z.") from None


def _to_utc(name: str, time: datetime | None) -> datetime | None:
    try:
        return time.astimezone(UTC) if time else None
    except OverflowError:
        raise BadRequest(f"{name} is not between the years 1 and 9999.") from None
