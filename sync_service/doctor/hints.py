"""Facts from the rows and the whole catalogue for the corrections: mapping lines, a table of links."""

from collections.abc import Mapping
from typing import Any

import asyncpg
from msgspec import Struct, field

from sync_service.doctor.link_fixes import LinkFix, assess_link
from sync_service.mapping.introspection import Table
from sync_service.mapping.presets import DEFAULT
from sync_service.mapping.table import TableMapping
from sync_service.postgres.pool import Connection
from sync_service.suggest.columns import decide_columns
from sync_service.suggest.deletion import decide_deletion
from sync_service.suggest.links import find_link
from sync_service.suggest.overview import Overview
from sync_service.suggest.overview_reader import read_overview
from sync_service.suggest.rows import read_evidence
from sync_service.suggest.rules import Decision
from sync_service.suggest.tables import list_candidates


class Hints(Struct, frozen=True):
    """The facts. `decisions` are the rules that `mapping suggest` gives to the columns.

    `marks` are the columns with which the app itself marks a deleted user. `link` is the table with the Clerk IDs where
    the users table has no column for them. `other_users_table` is the likelier users table beside the default table.
    """

    decisions: Mapping[str, Decision] = field(default_factory=dict)
    marks: Mapping[str, Any] = field(default_factory=dict)
    link: LinkFix | None = None
    other_users_table: str | None = None

    def find_spec(self, column: str) -> Any:
        """Return the rule that fills the column, in the form of `sync.toml`; None if none is known."""
        decision = self.decisions.get(column)
        return decision.spec if decision else None


async def read_hints(connection: Connection, mapping: TableMapping, table: Table) -> Hints:
    """Read the app's tables and the first rows of the users table. A table that is locked leaves no hints."""
    try:
        overview = await read_overview(connection)
        evidence = await read_evidence(connection, overview, table.schema, table.name)
    except (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError, asyncpg.InsufficientPrivilegeError):
        return Hints()
    if evidence is None:
        return Hints()
    link = None
    if table.column(mapping.id_column) is None and (users := overview.find(table.schema, table.name)):
        link = assess_link(overview, find_link(overview, users))
    other = _find_other_users_table(overview, table) if mapping == DEFAULT else None
    return Hints(decide_columns(evidence), decide_deletion(evidence).marks, link, other)


def _find_other_users_table(overview: Overview, table: Table) -> str | None:
    """Return the table that looks more like the users table than this one; None if the app refers to this one."""
    if any(key.parent == (table.schema, table.name) for other in overview.tables for key in other.references):
        return None
    best = next(iter(list_candidates(overview)), None)
    is_other = best and best.table.id != (table.schema, table.name)
    return best.table.display_name if best and is_other else None
