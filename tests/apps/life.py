"""The expected row and child rows of one user in an application."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sync_service.postgres.sql import quote_ident
from tests.apps.shapes import Shape
from tests.world import World


@dataclass
class Life:
    """The expected row and child rows of one user after any events in any order."""

    world: World
    shape: Shape
    user_id: str
    newest: Mapping[str, Any] | None = None
    deleted: bool = False
    is_in_use: bool = False
    _own: dict[str, Any] = field(default_factory=dict)
    _key: Any = None
    _others: dict[str, int] = field(default_factory=dict)

    def apply(self, body: Mapping[str, Any]) -> None:
        """Fold an event into the expected state."""
        data = body["data"]
        if body["type"] == "user.deleted":
            self.deleted = True
        elif self.newest is None or data["updated_at"] > self.newest["updated_at"]:
            self.newest = data

    async def start_use(self) -> None:
        """Act as the app: insert child rows and write one of the app's own columns."""
        self._others = await self.count_children()
        for statement in self.shape.children.values():
            await self.world.db.execute(statement, self.user_id)
        if self.shape.app_write:
            column, value = self.shape.app_write
            sql = f"update {self.world.table} set {quote_ident(column)} = $2 where {self._id} = $1"
            await self.world.db.execute(sql, self.user_id, value)
        row = await self.world.get_user(self.user_id)
        assert row
        self._own = {column: row[column] for column in self.shape.own}
        self.is_in_use = True

    async def check(self) -> None:
        """Compare the tables with the expected state."""
        row = await self.world.get_user(self.user_id)
        if self.deleted or self.newest is None:
            await self._check_deleted(row)
            return
        assert row
        expected = self.shape.map_user(self.newest)
        assert {column: row[column] for column in expected} == expected
        if "id" in row:
            self._key = self._key or row["id"]
            assert row["id"] == self._key
        own = {column: row[column] for column in self.shape.own}
        if self.is_in_use:
            assert own == self._own
            assert await self.count_children() == {table: number + 1 for table, number in self._others.items()}
        else:
            assert own == {column: own[column] if v is ... else v for column, v in self.shape.own.items()}

    async def _check_deleted(self, row: dict[str, Any] | None) -> None:
        soft = self.world.mapping.on_delete == "soft"
        if soft and row:
            assert row["deleted_at"]
            assert row[self.shape.email_column] is None
        else:
            assert row is None
        if self.is_in_use:
            assert await self.count_children() == {table: number + soft for table, number in self._others.items()}

    async def count_children(self) -> dict[str, int]:
        """Return the number of rows in each child table."""
        counts = {}
        for table in self.shape.children:
            counts[table] = await self.world.db.fetchval(f"select count(*) from {table}")
        return counts

    @property
    def _id(self) -> str:
        return quote_ident(self.world.mapping.id_column)
