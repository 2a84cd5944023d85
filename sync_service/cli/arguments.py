"""Parsing of arguments and formatting of output that several commands share."""

import argparse
import re
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from sync_service.parsers import DURATION_UNITS
from sync_service.store.events import Filter

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001  it has no public name


def parse_time(text: str) -> datetime:
    """Return a time, UTC unless `text` has an offset, or a time ago (`90s`, `15m`, `24h`, `30d`).

    Raises `ArgumentTypeError`.
    """
    try:
        if ago := re.fullmatch(r"([0-9]{1,6})([smhd])", text):
            return datetime.now(UTC) - timedelta(**{DURATION_UNITS[ago[2]]: int(ago[1])})
        time = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"write 2026-01-31T12:00, or 2h for two hours ago, not {text!r}") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def filter_from(arguments: argparse.Namespace) -> Filter:
    """Return the filter of `--status`, `--type`, `--user`, `--since` and `--until`."""
    return Filter(arguments.status, arguments.type, arguments.user, arguments.since, arguments.until)


def format_time(time: datetime) -> str:
    """Return a time for a person to read."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def format_error(event: dict[str, Any]) -> list[str]:
    """Return the reason of a failed event for the end of its line, or an empty list."""
    return [f"({event['reason']}, attempts: {event['attempts']})"] if event["reason"] else []
