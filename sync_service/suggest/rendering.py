"""The text of a `sync.toml` from the decisions, with the reason beside each line (pure)."""

from collections.abc import Iterator, Mapping, Sequence

from sync_service.mapping.introspection import Table
from sync_service.mapping.presets import PRESETS
from sync_service.suggest.columns import decide_columns
from sync_service.suggest.deletion import Deletion, decide_deletion
from sync_service.suggest.evidence import Evidence
from sync_service.suggest.related import RelatedTable
from sync_service.suggest.rules import Decision, leave
from sync_service.suggest.tables import Candidate
from sync_service.suggest.toml_syntax import append_comment, quote_table_part, render_comment, render_entry

# Names for a new column. The first that the table does not have is used.
_NEW_COLUMNS = ("clerk_user_id", "clerk_id", "clerk_user_id_text")


def render_suggestion(
    facts: Evidence, candidates: Sequence[Candidate] = (), related: Sequence[RelatedTable] = ()
) -> str:
    """Return the text of a `sync.toml`. The first candidate is the table, unless the user named one."""
    table = facts.table
    if (table.schema, table.name) == (PRESETS["neon_auth"].schema, PRESETS["neon_auth"].table):
        return _NEON_AUTH
    deletion = decide_deletion(facts)
    lines = [*_render_head(facts, candidates), *_render_users(facts, deletion), ""]
    decisions = decide_columns(facts)
    for name in deletion.marks:
        if decisions[name].spec is None:
            decisions[name] = leave("marks a deleted user, below [users.deleted]")
    lines += _render_columns(facts, decisions)
    lines += [*_render_marks(deletion), *(line for table in related for line in _render_related(table))]
    return "\n".join(lines) + "\n"


def list_unsolved(facts: Evidence) -> dict[str, str]:
    """Return the columns that need a value that cannot be guessed, with the reason."""
    return {name: decision.reason for name, decision in decide_columns(facts).items() if decision.unsolved}


def _render_head(facts: Evidence, candidates: Sequence[Candidate]) -> Iterator[str]:
    name = f"{facts.table.schema}.{facts.table.name}"
    yield render_comment(f"Suggested for {name} from its columns, its constraints and a sample of its rows.")
    if candidates and candidates[0].table.display_name == name:
        yield render_comment(f"{name} was chosen: {'; '.join(candidates[0].reasons)}.")
        others = [found.table.display_name for found in candidates[1:]]
        if others:
            yield render_comment(f"Other tables that may hold users: {', '.join(others)}. For another one, run:")
            yield render_comment(f"  sync-service mapping suggest --table {others[0]}")


def _render_users(facts: Evidence, deletion: Deletion) -> Iterator[str]:
    yield "[users]"
    yield _render_table(facts.table)
    yield from _render_clerk_id(facts)
    yield append_comment(render_entry("on_delete", deletion.on_delete), deletion.reason)
    yield from map(render_comment, deletion.remarks)
    if _has_unlinked_rows(facts):
        yield "# Rows without a Clerk ID stay as they are, unless you link them: read `sync-service docs mapping`."
        yield "# link_by_verified_email = true  # a new Clerk user gets the row with the same verified email"
        yield "# link_by_external_id = true  # a Clerk user gets the row whose key is the user's external_id at Clerk"


def _render_table(table: Table) -> str:
    return render_entry("table", f"{quote_table_part(table.schema)}.{quote_table_part(table.name)}")


def _has_unlinked_rows(facts: Evidence) -> bool:
    """Return whether rows may be older than Clerk. In an empty table there may be some later."""
    column = facts.table.column(facts.clerk_id)
    if facts.is_keyed_by_clerk or (column and column.not_null):
        return False
    return facts.clerk_id is None or facts.rows == 0 or facts.read_rows(facts.clerk_id).values < facts.rows


def _render_clerk_id(facts: Evidence) -> Iterator[str]:
    if facts.clerk_id is None:
        if facts.link:
            yield render_comment(f"The Clerk IDs are in {facts.link.display_name}.{facts.link.clerk_id}.")
            yield "# The service needs them in the users table: a user without a copy there would get a second row."
            yield "# Doctor's SQL adds a column, copies the IDs, and keeps both tables the same by triggers."
        yield append_comment(
            render_entry("clerk_id", _name_new_column(facts)),
            "does not exist yet: sync-service doctor prints the SQL that adds it",
        )
    else:
        yield append_comment(render_entry("clerk_id", facts.clerk_id), _describe_keys(facts, facts.clerk_id))


def _name_new_column(facts: Evidence) -> str:
    return next((name for name in _NEW_COLUMNS if facts.table.column(name) is None), _NEW_COLUMNS[-1])


def _describe_keys(facts: Evidence, clerk_id: str) -> str:
    if facts.is_keyed_by_clerk:
        return "the primary key is the Clerk ID"
    remark = "the app keeps its own key"
    if facts.table.primary_key:
        remark += f": {', '.join(facts.table.primary_key)}"
    if not facts.table.identifies_by(clerk_id):
        remark += "; a unique index is missing, sync-service doctor prints the SQL"
    return remark


def _render_columns(facts: Evidence, decisions: Mapping[str, Decision]) -> Iterator[str]:
    yield "[users.columns]"
    for name, decision in decisions.items():
        if decision.spec is not None:
            yield append_comment(render_entry(name, decision.spec), decision.reason)
    unsolved = {name: decision for name, decision in decisions.items() if decision.unsolved}
    if unsolved:
        yield ""
        yield "# Each new row needs a value in these columns. Without a rule or a default, every new user is parked."
        yield from _render_remarks(facts, unsolved)
    own = {name: d for name, d in decisions.items() if d.spec is None and not d.unsolved}
    if own:
        yield ""
        yield "# Columns of the app: never written on update, left to their defaults on insert."
        yield from _render_remarks(facts, own)


def _render_related(found: RelatedTable) -> Iterator[str]:
    """Yield the section of a session, an organization or a membership; only a remark if a value is missing."""
    table, section = found.facts.table, found.entity.section
    yield ""
    if found.unsolved:
        name = f"{table.schema}.{table.name}"
        yield render_comment(f"{name} may be the table of [{section}]. Each new row needs a value in")
        yield render_comment(f"{', '.join(found.unsolved)}: read `sync-service docs sessions`.")
        return
    yield f"[{section}]"
    yield _render_table(table)
    yield render_entry(found.entity.id_key, found.id_column)
    yield f"[{section}.columns]"
    for name, decision in found.decisions.items():
        if decision.spec is not None:
            yield append_comment(render_entry(name, decision.spec), decision.reason)


def _render_marks(deletion: Deletion) -> Iterator[str]:
    if deletion.marks:
        yield from ("", "[users.deleted]")
        yield from (render_entry(name, value) for name, value in deletion.marks.items())
    if deletion.alternative:
        yield from (
            "",
            '# To mark a deleted user instead, write on_delete = "soft" above, and add:',
            "# [users.deleted]",
        )
        yield from (render_comment(render_entry(name, value)) for name, value in deletion.alternative.items())


def _render_remarks(facts: Evidence, decisions: Mapping[str, Decision]) -> Iterator[str]:
    for name, decision in decisions.items():
        column = facts.table.column(name)
        reason = f": {decision.reason}" if decision.reason else ""
        yield render_comment(f"{name} ({column.type if column else ''}){reason}")


_NEON_AUTH = """\
# Neon Auth's table, with or without Neon's generated columns.
[users]
preset = "neon_auth"
"""
