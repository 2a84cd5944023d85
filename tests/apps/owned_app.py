"""An application as its owner describes it: schema, rows, and the results that the owner requires."""

import json
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sync_service.postgres.sql import quote_ident, quote_literal, quote_table

SHARED_APPS = Path(__file__).resolve().parents[3] / "shared" / "apps"

# A time that the service or the database generates may differ from the time of the check by so much.
MAX_AGE = timedelta(minutes=10)


@dataclass(frozen=True)
class OwnedApp:
    """One application. `expect` is the content of its expect.json."""

    name: str
    schema_sql: str
    rows_sql: str
    expect: dict[str, Any]

    @property
    def table(self) -> str:
        """The users table, quoted for SQL."""
        return quote_table(*self.expect["table"])

    @property
    def key_column(self) -> str:
        return str(self.expect["key"]["column"])

    def names(self, name: str) -> list[str]:
        """Return the columns or IDs of one key of expect.json."""
        return list(self.expect.get(name, []))

    def children(self, *, cured: bool) -> dict[str, str]:
        """Return the child tables with the conditions that find the rows of one user."""
        return {**self.expect["children"], **(self.expect.get("children_cured", {}) if cured else {})}

    def deletions(self, *, cured: bool) -> list[str]:
        """Return the accepted results of a deletion."""
        found: list[str] = self.expect.get("delete_cured", self.expect["delete"]) if cured else self.expect["delete"]
        return found

    def find_row_sql(self, id_column: str) -> str:
        """Return the query of the user's row by the Clerk ID $1."""
        if via := self.expect.get("via"):
            return f"select to_jsonb(found) from ({via}) as found"
        column = quote_ident(self.expect["clerk"] or id_column)
        return f"select to_jsonb(u) from {self.table} as u where {column} = $1"


def load_apps(folder: Path = SHARED_APPS) -> list[OwnedApp]:
    """Return the applications of a folder; none if it is absent."""
    places = sorted(place.parent for place in folder.glob("*/expect.json"))
    if not places and os.environ.get("REQUIRE_SHARED"):
        pytest.fail(f"{folder} must exist: these tests may not be skipped here")
    return [_load_app(place) for place in places]


def _load_app(place: Path) -> OwnedApp:
    schema, rows, expect = ((place / name).read_text() for name in ("schema.sql", "rows.sql", "expect.json"))
    return OwnedApp(place.name, schema, rows, json.loads(expect))


def fill(sql: str, clerk_id: str, key: Any) -> str:
    """Return the SQL with the literals of a user's Clerk ID and key."""
    literal = str(key) if isinstance(key, int) else quote_literal(str(key))
    return sql.replace("{clerk}", quote_literal(clerk_id)).replace("{key}", literal)


def is_fresh(value: Any, wanted: Any) -> bool:
    """Return whether a value of a new row is as expect.json requires."""
    if isinstance(wanted, dict) and wanted.keys() == {"not"}:
        return bool(value != wanted["not"])
    if wanted == "set":
        return value is not None
    if wanted == "recent":
        return value is not None and is_recent(value)
    if isinstance(wanted, str) and wanted.startswith("~"):
        return value is not None and re.search(wanted[1:], str(value)) is not None
    return bool(value == wanted)


def is_recent(value: str) -> bool:
    """Return whether a time is about now. Without a zone it is UTC, or the zone of this machine."""
    moment = datetime.fromisoformat(value)
    if moment.tzinfo:
        return abs(datetime.now(UTC) - moment) < MAX_AGE
    local = datetime.now().astimezone().replace(tzinfo=None)
    utc = datetime.now(UTC).replace(tzinfo=None)
    return min(abs(local - moment), abs(utc - moment)) < MAX_AGE


def is_greater(later: Any, earlier: Any) -> bool:
    """Return whether a time or number has grown."""
    if isinstance(later, str) and isinstance(earlier, str):
        return datetime.fromisoformat(later) > datetime.fromisoformat(earlier)
    return bool(later > earlier)
