"""The audit: each action of an operator, without the data of a person."""

import re
from datetime import datetime

from msgspec import Struct

from sync_service.clerk.masking import HIDDEN
from sync_service.postgres.pool import Connection

PAGE, API, COMMAND = "page", "api", "command"

_ID = re.compile(r"(?:user|msg)_[0-9A-Za-z]{1,100}")


class AuditEntry(Struct, frozen=True):
    """One action. `who` is `page`, `api` or `command`; `subject` the ID of an event or a user, or a filter."""

    who: str
    action: str
    subject: str


class AuditLine(Struct, frozen=True):
    """An action with its time."""

    at: datetime
    who: str
    action: str
    subject: str


async def add_entry(connection: Connection, entry: AuditEntry) -> None:
    """Record an action, in the transaction of the action where it has one."""
    await connection.execute(
        "insert into clerk_sync.audit (who, action, subject) values ($1, $2, $3)",
        entry.who,
        entry.action,
        entry.subject,
    )


async def list_entries(connection: Connection, limit: int) -> list[AuditLine]:
    """Return the last actions, the newest first."""
    sql = "select at, who, action, subject from clerk_sync.audit order by id desc limit $1"
    return [AuditLine(*row) for row in await connection.fetch(sql, limit)]


def hide_personal_text(text: str, *, is_stored: bool = False) -> str:
    """Return an ID as it is, and another text only if the service has it stored as an ID (pure)."""
    return text if is_stored or _ID.fullmatch(text) else HIDDEN
