"""What the commands share: arguments read, times and faults told."""

import argparse
import re
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from sync_service.postgres.events import Filter
from sync_service.spellings import UNITS

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001  the only name it has


def moment(text: str) -> datetime:
    """Read a time, as UTC where it says no zone, or so long ago (`90s`, `15m`, `24h`, `30d`). Raises `ValueError`."""
    if ago := re.fullmatch(r"([0-9]{1,6})([smhd])", text):
        return datetime.now(UTC) - timedelta(**{UNITS[ago[2]]: int(ago[1])})
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def wanted(arguments: argparse.Namespace) -> Filter:
    """Return the events that `--status`, `--type`, `--user`, `--since` and `--until` name."""
    return Filter(arguments.status, arguments.type, arguments.user, arguments.since, arguments.until)


def told_time(time: datetime) -> str:
    """Return a time for eyes."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def told_fault(event: dict[str, Any]) -> list[str]:
    """Return why an event failed, as words for the end of its line, or none."""
    return [f"({event['reason']}, attempts: {event['attempts']})"] if event["reason"] else []
