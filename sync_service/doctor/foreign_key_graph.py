"""The graph of foreign keys below the users table: each key once, and the effect of a deletion on its rows (pure)."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sync_service.doctor.introspection import ForeignKey


@dataclass(frozen=True, slots=True)
class ForeignKeyEdge:
    """A foreign key, `depth` steps below the users table.

    `path` is the chain of keys from the users table to this one, in which every key before the last one cascades.
    It is None if the rows of the parent table stay when a user is deleted.
    """

    key: ForeignKey
    depth: int
    path: tuple[ForeignKey, ...] | None

    @property
    def is_deleted_with_user(self) -> bool:
        """Whether the deletion of a user also deletes its rows."""
        return self.path is not None and self.key.on_delete == "c"

    @property
    def can_block_deletion(self) -> bool:
        """Whether one of its rows can prevent the deletion of a user."""
        is_refused = self.key.on_delete in {"a", "r"} or (self.key.on_delete == "n" and self.key.required)
        return self.path is not None and is_refused


def build_graph(users_oid: int, keys: Sequence[ForeignKey]) -> list[ForeignKeyEdge]:
    """Return an edge for every key, the nearest first. Cycles and keys from a table to itself end the search."""
    search = _Search(users_oid, keys)
    # Cascading keys come first: a table that both kinds of keys reach is then deleted with the user.
    search.walk(cascading_only=True)
    search.walk(cascading_only=False)
    return sorted(search.edges.values(), key=lambda edge: (edge.depth, edge.key.display_name))


class _Search:
    """A breadth-first search. `depths` has all reached tables, `paths` only those reached by cascading keys."""

    def __init__(self, users_oid: int, keys: Sequence[ForeignKey]) -> None:
        self.edges: dict[tuple[int, str], ForeignKeyEdge] = {}
        self._depths: dict[int, int] = {users_oid: 0}
        self._paths: dict[int, tuple[ForeignKey, ...]] = {users_oid: ()}
        self._keys_by_parent: dict[int, list[ForeignKey]] = defaultdict(list)
        for key in keys:
            self._keys_by_parent[key.parent_oid].append(key)

    def walk(self, *, cascading_only: bool) -> None:
        """Add the edges below all tables that are already reached; follow all keys, or only the cascading ones."""
        level = list(self._depths)
        while level:
            level = [child for parent in level for child in self._visit(parent, cascading_only=cascading_only)]

    def _visit(self, parent: int, *, cascading_only: bool) -> list[int]:
        reached = []
        for key in self._keys_by_parent[parent]:
            self._add_edge(key)
            if key.child_oid in self._depths or (cascading_only and key.on_delete != "c"):
                continue
            self._depths[key.child_oid] = self._depths[parent] + 1
            if cascading_only:
                self._paths[key.child_oid] = (*self._paths[parent], key)
            reached.append(key.child_oid)
        return reached

    def _add_edge(self, key: ForeignKey) -> None:
        path = (*self._paths[key.parent_oid], key) if key.parent_oid in self._paths else None
        self.edges.setdefault(key.id, ForeignKeyEdge(key, self._depths[key.parent_oid] + 1, path))
