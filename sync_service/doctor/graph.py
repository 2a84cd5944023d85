"""The foreign keys below the users table, each once, with what happens to its rows when a user goes (pure)."""

from collections.abc import Sequence
from dataclasses import dataclass

from sync_service.postgres.survey import ForeignKey


@dataclass(frozen=True, slots=True)
class Reference:
    """One foreign key, `depth` steps below the users table.

    `path` leads to it from there by keys that all cascade but perhaps itself; None where rows of its parent stay when
    a user is deleted.
    """

    key: ForeignKey
    depth: int
    path: tuple[ForeignKey, ...] | None

    @property
    def goes(self) -> bool:
        """Whether its rows go with the user."""
        return self.path is not None and self.key.on_delete == "c"

    @property
    def forbids(self) -> bool:
        """Whether a row of it keeps the user from being deleted."""
        return self.path is not None and self.key.on_delete in {"a", "r"}


def references(users: int, keys: Sequence[ForeignKey]) -> list[Reference]:
    """Return every key once, the nearest first; a table that refers to itself, or in a circle, ends there."""
    depths: dict[int, int] = {users: 0}
    paths: dict[int, tuple[ForeignKey, ...]] = {users: ()}
    found: dict[tuple[int, str], Reference] = {}
    for cascading in (True, False):
        level = list(paths) if cascading else list(depths)
        while level:
            below: list[int] = []
            for key in [key for parent in level for key in keys if key.parent == parent]:
                path = (*paths[key.parent], key) if key.parent in paths else None
                found.setdefault((key.child, key.name), Reference(key, depths[key.parent] + 1, path))
                if key.child not in depths and (not cascading or key.on_delete == "c"):
                    depths[key.child] = depths[key.parent] + 1
                    if cascading:
                        paths[key.child] = path or ()
                    below.append(key.child)
            level = below
    return sorted(found.values(), key=lambda reference: (reference.depth, reference.key.where))
