"""Tables of the app for Clerk's sessions, organizations and memberships, where the evidence is clear."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from sync_service.clerk.entities import MEMBERSHIP, ORGANIZATION, SESSION, Entity
from sync_service.mapping.computed_values import PARENT_KEYS
from sync_service.mapping.introspection import Column
from sync_service.postgres.pool import Connection
from sync_service.suggest.evidence import Evidence
from sync_service.suggest.fillers import fill_column
from sync_service.suggest.keys import decide_key
from sync_service.suggest.names import normalize, parse_words, split_words
from sync_service.suggest.overview import Overview, TableOverview
from sync_service.suggest.related_sources import find_related_source
from sync_service.suggest.rows import read_evidence
from sync_service.suggest.rules import Decision, leave
from sync_service.suggest.times import decide_time

# The last words of the names of the tables. A table with another name may have the column for another purpose.
_ORGANIZATIONS = parse_words(
    "org orgs organization organizations organisation organisations team teams workspace workspaces company companies"
    " tenant tenants"
)
_MEMBERS = parse_words("member members membership memberships")
_SESSIONS = parse_words("session sessions")
# Columns of sessions that an authentication library or a web framework keeps itself.
_OTHER_SESSIONS = parse_words("token sessiontoken sess data payload sessiondata refreshtoken accesstoken")


@dataclass(frozen=True, slots=True)
class RelatedTable:
    """A table for one entity, the column of its ID, and the decision about each other column."""

    entity: Entity
    facts: Evidence
    id_column: str
    decisions: Mapping[str, Decision]

    @property
    def unsolved(self) -> list[str]:
        """The columns that need a value that cannot be guessed."""
        return [name for name, decision in self.decisions.items() if decision.unsolved]


async def read_related(connection: Connection, overview: Overview, users: tuple[str, str]) -> list[RelatedTable]:
    """Return the tables, parents first; none for an entity with no table, or with several. Raises errors of asyncpg."""
    found: dict[str, RelatedTable] = {}
    parents = {"user": users}
    for entity in (ORGANIZATION, SESSION, MEMBERSHIP):
        candidates = list(_list_candidates(overview, entity, users))
        if len(candidates) != 1:
            continue
        [(table, id_column)] = candidates
        facts = await read_evidence(connection, overview, *table.id)
        if facts:
            facts = replace(facts, clerk_id=id_column)
            found[entity.name] = RelatedTable(entity, facts, id_column, decide_related(entity, facts, parents))
            parents[entity.name] = table.id
    return [*found.values()]


def _list_candidates(overview: Overview, entity: Entity, users: tuple[str, str]) -> Iterator[tuple[TableOverview, str]]:
    judge = _JUDGES[entity.name]
    for table in overview.tables:
        columns = [column.name for column in table.columns if column.unique and column.can_hold_id]
        names = [name for name in columns if judge(table, normalize(name), users)]
        if table.id != users and len(names) == 1:
            yield table, names[0]


def _is_organization_id(table: TableOverview, name: str, _: tuple[str, str]) -> bool:
    return _is_named(table, _ORGANIZATIONS) and "clerk" in name and "org" in name and "member" not in name


def _is_membership_id(table: TableOverview, name: str, _: tuple[str, str]) -> bool:
    return _is_named(table, _MEMBERS) and "clerk" in name and "member" in name


def _is_session_id(table: TableOverview, name: str, users: tuple[str, str]) -> bool:
    """Return whether the column has the ID of Clerk's session: by its name, or by the user to whom the row belongs."""
    if not _is_named(table, _SESSIONS) or any(normalize(column.name) in _OTHER_SESSIONS for column in table.columns):
        return False
    if "clerk" in name:
        return "session" in name
    belongs_to_user = any(reference.parent == users for reference in table.references)
    return name == "sessionid" and belongs_to_user and any(column.is_named_clerk for column in table.columns)


def _is_named(table: TableOverview, nouns: frozenset[str]) -> bool:
    """Return whether the last word of the table's name says that its rows are such objects."""
    words = split_words(table.name)
    return bool(words) and words[-1] in nouns


_JUDGES: Mapping[str, Callable[[TableOverview, str, tuple[str, str]], bool]] = {
    ORGANIZATION.name: _is_organization_id,
    SESSION.name: _is_session_id,
    MEMBERSHIP.name: _is_membership_id,
}


def decide_related(entity: Entity, facts: Evidence, parents: Mapping[str, tuple[str, str]]) -> dict[str, Decision]:
    """Return the decision about each column beside that of the ID; `parents` has the tables of the parents (pure)."""
    return {
        column.name: _decide(entity, facts, column, parents)
        for column in facts.table.columns
        if column.name != facts.clerk_id
    }


def _decide(entity: Entity, facts: Evidence, column: Column, parents: Mapping[str, tuple[str, str]]) -> Decision:
    if column.generated:
        return leave("generated by the database")
    if key := _find_parent_key(entity, facts, column, parents):
        return Decision(key, "the app's own key of the row")
    if column.name in facts.table.primary_key:
        return decide_key(facts, column)
    if source := find_related_source(entity.name, column):
        return Decision(source)
    if decision := decide_time(facts, column):
        return decision
    return fill_column(facts, column) if column.needs_value else leave()


def _find_parent_key(
    entity: Entity, facts: Evidence, column: Column, parents: Mapping[str, tuple[str, str]]
) -> str | None:
    reference = facts.find_reference(column.name)
    if reference is None or len(reference.columns) != 1:
        return None
    names = [parent.entity for parent in entity.parents if parents.get(parent.entity) == reference.parent]
    return PARENT_KEYS[names[0]] if names else None
