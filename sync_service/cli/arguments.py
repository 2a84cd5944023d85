"""Parsing of arguments and formatting of output that several commands share."""

import argparse
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias, TypeVar

import msgspec

from sync_service import parsers
from sync_service.parsers import InvalidValue
from sync_service.store.event_filter import Filter
from sync_service.store.events import EventSummary
from sync_service.store.remedies import find_remedy

T = TypeVar("T")

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001  it has no public name

MAX_COUNT = 1_000_000


def make_argument_parser(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return the parser of a setting as a type for argparse, which then prints its message."""

    def parse_argument(text: str) -> T:
        try:
            return parse(text)
        except InvalidValue as error:
            raise argparse.ArgumentTypeError(f"{text!r} {error}") from None

    return parse_argument


parse_count = make_argument_parser(parsers.make_integer_parser(1, MAX_COUNT))


def parse_id(text: str) -> str:
    """Return an ID of Clerk or Svix. Raises `ArgumentTypeError`."""
    if not re.fullmatch(r"[!-~]{1,255}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an ID; an ID has 1 to 255 letters, digits or signs")
    return text


def parse_text(text: str) -> str:
    """Return a text that is not empty and that PostgreSQL can store. Raises `ArgumentTypeError`."""
    if not text or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is empty, has control characters, or is not valid UTF-8")
    return text


def parse_time(text: str) -> datetime:
    """Return a time, UTC unless `text` has an offset, or a time ago (`90s`, `15m`, `24h`, `30d`).

    Raises `ArgumentTypeError`.
    """
    try:
        if re.fullmatch(r"[0-9]+[smhd]", text):
            return datetime.now(UTC) - parsers.parse_duration(text)
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except InvalidValue as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"write 2026-01-31T12:00, or 2h for two hours ago, not {text!r}") from None


def filter_from(arguments: argparse.Namespace) -> Filter:
    """Return the filter of `--status`, `--type`, `--user`, `--since` and `--until`."""
    return Filter(arguments.status, arguments.type, arguments.user, arguments.since, arguments.until)


def add_json_option(*commands: argparse.ArgumentParser) -> None:
    """Add `--json`, which every command has that prints data."""
    for command in commands:
        command.add_argument("--json", action="store_true", help="print JSON")


def format_time(time: datetime) -> str:
    """Return a time for a person to read."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def format_error(event: EventSummary) -> list[str]:
    """Return the reason of a failed event for the end of its line, or an empty list."""
    return [f"({event.reason}, attempts: {event.attempts})"] if event.reason else []


def format_remedy(reason: str) -> str:
    """Return the remedy of a reason, with the section that describes it."""
    remedy = find_remedy(reason)
    return f"{remedy.meaning} {remedy.fix} See `sync-service docs operations`, {remedy.title}."


def format_json(value: object) -> str:
    """Return a value of the store as JSON over several lines."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
