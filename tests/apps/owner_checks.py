"""Checks of one application's rows against expect.json. A failed check is reported; the run goes on."""

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.apps.clerk_users import read_source
from tests.apps.owned_app import OwnedApp, fill, is_fresh, is_greater
from tests.world import World, make_message_id

Row = dict[str, Any]


@dataclass
class Failure:
    """A check of one application that failed."""

    check: str
    detail: str


@dataclass
class OwnerChecks:
    """The service, one application, and the failures so far."""

    app: OwnedApp
    world: World
    cured: bool
    failures: list[Failure] = field(default_factory=list)

    def require(self, condition: object, check: str, detail: object = "") -> bool:
        if not condition:
            self.failures.append(Failure(check, str(detail)))
        return bool(condition)

    async def deliver(self, step: str, body: dict[str, Any], *outcomes: str, message_id: str | None = None) -> str:
        """Deliver an event, require one of the outcomes, and return its message ID."""
        message_id = message_id or make_message_id()
        await self._check_answer(step, await self.world.deliver(body, message_id), message_id, outcomes)
        return message_id

    async def deliver_at_once(self, step: str, bodies: list[dict[str, Any]]) -> None:
        """Deliver events concurrently; each must be applied."""
        ids = [make_message_id() for _ in bodies]
        responses = await asyncio.gather(*map(self.world.deliver, bodies, ids))
        for message_id, response in zip(ids, responses, strict=True):
            await self._check_answer(step, response, message_id, ("applied",))

    async def _check_answer(
        self, step: str, response: httpx2.Response, message_id: str, outcomes: Sequence[str]
    ) -> None:
        outcome = response.json().get("outcome", response.text)
        stored = await self.world.get_event(message_id)
        reason = stored["reason"] if stored else ""
        found = f"{outcome} {reason}" if outcome == "parked" else outcome
        self.require(found in outcomes, step, f"{response.status_code} {found}, not {' or '.join(outcomes)}")

    async def fetch_row(self, clerk_id: str) -> Row | None:
        """Return the user's row; two rows of one user are a failure."""
        rows = await self.world.db.fetch(self.app.find_row_sql(self.world.mapping.id_column), clerk_id)
        self.require(len(rows) < 2, "one row per user", f"{len(rows)} rows of {clerk_id}")
        return json.loads(rows[0][0]) if rows else None

    async def fetch_by_key(self, key: Any) -> Row | None:
        sql = f"select to_jsonb(u) from {self.app.table} as u where to_jsonb(u) ->> $1 = $2"
        found = await self.world.db.fetchval(sql, self.app.key_column, str(key))
        return json.loads(found) if found else None

    async def fetch_all(self) -> dict[str, Row]:
        """Return all rows by the text of their key."""
        rows = [json.loads(row[0]) for row in await self.world.db.fetch(f"select to_jsonb(u) from {self.app.table} u")]
        return {str(row[self.app.key_column]): row for row in rows}

    def check_shows(self, step: str, row: Row, data: dict[str, Any]) -> None:
        """The column has Clerk's value, unless Clerk has null."""
        for column, source in self.app.expect["shows"].items():
            value = read_source(source, data)
            limit = self.app.expect.get("long", {}).get(column)
            value = value[:limit] if limit and value else value
            self.require(value is None or row[column] == value, f"{step}: shows {column}", _describe(row[column]))

    def check_never_null(self, step: str, row: Row) -> None:
        for column in self.app.names("never_null"):
            self.require(row[column] is not None, f"{step}: never_null {column}")

    def check_new(self, step: str, row: Row, data: dict[str, Any]) -> None:
        """Check a row that has just been inserted."""
        key = row[self.app.key_column]
        self.require(re.search(self.app.expect["key"]["form"], str(key)), f"{step}: key form", key)
        for column, wanted in self.app.expect["fresh"].items():
            self.require(is_fresh(row[column], wanted), f"{step}: fresh {column}", _describe(row[column]))
        self.check_shows(step, row, data)
        self.check_never_null(step, row)

    def check_same(self, step: str, row: Row, before: Row, columns: list[str]) -> None:
        """Check that the application's columns are as it left them, and the key too."""
        for column in (self.app.key_column, *columns):
            self.require(row[column] == before[column], f"{step}: {column} changed", _describe(row[column]))

    def check_moves(self, step: str, row: Row, before: Row) -> None:
        for column in self.app.names("moves"):
            moved = row[column] is not None and is_greater(row[column], before[column])
            self.require(moved, f"{step}: moves {column}", row[column])

    async def check_queries(self, name: str, clerk_id: str, key: Any) -> None:
        """Check the queries of after_insert, after_updates or after_delete."""
        for sql, wanted in self.app.expect.get(name, {}).items():
            found = await self.world.db.fetchval(fill(sql, clerk_id, key))
            self.require(found == wanted, name, f"{sql}: {found}")

    async def count_children(self, clerk_id: str, key: Any) -> dict[str, int]:
        """Return the number of the user's rows in each child table."""
        tables = self.app.children(cured=self.cured)
        return {
            table: await self.world.db.fetchval(f"select count(*) from {table} where {fill(where, clerk_id, key)}")
            for table, where in tables.items()
        }

    async def delete_user(self, step: str, clerk_id: str, at: int, deletion: dict[str, Any]) -> str:
        """Delete a user and check the row and the child rows. Return gone, marked or parked."""
        row = await self.fetch_row(clerk_id)
        if not self.require(row, f"{step}: row before the deletion"):
            return "gone"
        assert row
        key = row[self.app.key_column]
        children = await self.count_children(clerk_id, key)
        allowed = self.app.deletions(cured=self.cured)
        if allowed == ["parked"] and not any(children.values()):
            allowed = ["gone"]  # without a child row nothing refuses the deletion
        outcomes = {"parked": "parked foreign_key_violation"}
        await self.deliver(step, deletion, *{outcomes.get(result, "applied") for result in allowed})
        after = await self.fetch_by_key(key)
        result = await self._judge_deletion(clerk_id, after)
        self.require(result in allowed, f"{step}: delete", f"{result}, not {' or '.join(allowed)}")
        remaining = await self.count_children(clerk_id, key)
        wanted = dict.fromkeys(children, 0) if result == "gone" else children
        self.require(remaining == wanted, f"{step}: children", f"{result}: {remaining}, not {wanted}")
        if after:
            own = [column for column in self.app.names("own") if column not in self.app.expect.get("marks", {})]
            self.check_same(step, after, row, own)
        return result

    async def _judge_deletion(self, clerk_id: str, after: Row | None) -> str:
        if after is None:
            return "gone"
        sql = "select deleted_at is not null from clerk_sync.identities where clerk_id = $1"
        waiting = "select 1 from clerk_sync.events where clerk_id = $1 and type = 'user.deleted' and status = 'failed'"
        if await self.world.db.fetchval(waiting, clerk_id):
            return "parked"
        marks = self.app.expect.get("marks", {})
        is_marked = marks and all(is_fresh(after[column], wanted) for column, wanted in marks.items())
        return "marked" if is_marked and await self.world.db.fetchval(sql, clerk_id) else "unmarked"


def _describe(value: Any) -> str:
    return repr(value)[:60]
