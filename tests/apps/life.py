"""A user's life in one application, as its tables show it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sync_service.postgres.statements import quoted
from tests.apps.shapes import Shape
from tests.world import World


@dataclass
class Life:
    """What one user's row and children must be, after any events in any order."""

    world: World
    shape: Shape
    user_id: str
    newest: Mapping[str, Any] | None = None
    deleted: bool = False
    lived_in: bool = False
    _own: dict[str, Any] = field(default_factory=dict)
    _key: Any = None
    _others: dict[str, int] = field(default_factory=dict)

    def hear(self, body: Mapping[str, Any]) -> None:
        """Fold an event into what must be."""
        data = body["data"]
        if body["type"] == "user.deleted":
            self.deleted = True
        elif self.newest is None or data["updated_at"] > self.newest["updated_at"]:
            self.newest = data

    async def live_in(self) -> None:
        """Have the app use the row: children below it, a column of its own written."""
        self._others = await self.children()
        for statement in self.shape.children.values():
            await self.world.db.execute(statement, self.user_id)
        if self.shape.taken:
            column, value = self.shape.taken
            sql = f"update {self.world.table} set {quoted(column)} = $2 where {self._id} = $1"
            await self.world.db.execute(sql, self.user_id, value)
        row = await self.world.get_user(self.user_id)
        assert row
        self._own = {column: row[column] for column in self.shape.own}
        self.lived_in = True

    async def check(self) -> None:
        """Hold the tables against what must be."""
        row = await self.world.get_user(self.user_id)
        if self.deleted or self.newest is None:
            await self._check_deleted(row)
            return
        assert row
        expected = self.shape.shows(self.newest)
        assert {column: row[column] for column in expected} == expected
        if "id" in row:
            self._key = self._key or row["id"]
            assert row["id"] == self._key
        own = {column: row[column] for column in self.shape.own}
        if self.lived_in:
            assert own == self._own
            assert await self.children() == {table: number + 1 for table, number in self._others.items()}
        else:
            assert own == {column: own[column] if v is ... else v for column, v in self.shape.own.items()}

    async def _check_deleted(self, row: dict[str, Any] | None) -> None:
        soft = self.world.mapping.on_delete == "soft"
        if soft and row:
            assert row["deleted_at"]
            assert row[self.shape.address] is None
        else:
            assert row is None
        if self.lived_in:
            assert await self.children() == {table: number + soft for table, number in self._others.items()}

    async def children(self) -> dict[str, int]:
        """Return how many rows there are in each table below."""
        counts = {}
        for table in self.shape.children:
            counts[table] = await self.world.db.fetchval(f"select count(*) from {table}")
        return counts

    @property
    def _id(self) -> str:
        return quoted(self.world.mapping.clerk_id)
