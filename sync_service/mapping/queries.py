"""The SQL of one mapped table, built by pure functions: lookups from the mapping alone, the rest from its binding."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sync_service.mapping.binding import BoundMapping
from sync_service.mapping.coercion import scrub_expression
from sync_service.mapping.email_policy import EmailPolicy, read_email_policy
from sync_service.mapping.fields import PRIMARY_EMAIL
from sync_service.mapping.introspection import Column
from sync_service.mapping.table import TableMapping
from sync_service.mapping.unique_rules import UniqueRule, list_unique_rules, render_find_holder
from sync_service.mapping.validation import find_unfilled_columns
from sync_service.postgres.sql import fill_gaps, quote_ident, quote_literal, quote_table, read_gaps, read_sql


@dataclass(frozen=True, slots=True)
class LookupQueries:
    """Statements that need no knowledge of the table beyond its mapping."""

    row: str
    user_state: str


@dataclass(frozen=True, slots=True)
class ClaimQueries:
    """Statements of one unique rule. `can_release`: a row may give its value up. `released` replaces the value."""

    rule: UniqueRule
    can_release: bool
    released: str | None
    find_holder: str
    release: str
    restore: str


@dataclass(frozen=True, slots=True)
class Queries:
    """Statements that write to the table, or depend on the types of its columns."""

    bound: BoundMapping
    apply_many: str
    apply_one: str
    mark_deleted: str
    delete_rows: str
    restore_user: str
    resolve_keys: str
    link_rows: str | None
    claims: tuple[ClaimQueries, ...]

    def probe(self, columns: Sequence[str]) -> str:
        """Return a statement that reads some columns of a row from JSON, to find one whose type rejects its value."""
        definitions = ", ".join(f"{quote_ident(name)} {self.bound.column_types[name].type}" for name in columns)
        return f"select count(r.*) from jsonb_to_record($1::jsonb) as r ({definitions})"  # noqa: S608  quoted names


def build_lookup_queries(mapping: TableMapping) -> LookupQueries:
    """Return the statements that work before the table was read."""
    names = _name_gaps(mapping)
    return LookupQueries(
        row=_render("user_row.sql", names),
        user_state=_render("user_state.sql", names),
    )


def build_queries(mapping: TableMapping, bound: BoundMapping) -> Queries:
    """Return the statements of a bound mapping; `mapping` is the owner's, with the columns that are not written."""
    email = read_email_policy(bound, tuple(n for n, field in mapping.columns.items() if field.source == PRIMARY_EMAIL))
    gaps = _name_gaps(mapping) | {
        "id_type": _id_type(bound),
        "key": quote_ident(bound.key),
        "deletion_type": quote_literal(mapping.deletion_type),
    }
    gaps["tombstoned"] = _TOMBSTONED.format(**gaps)
    deleted_at = bound.table.column(mapping.deleted_at)
    unchanged = f"{gaps['id_column']} = {gaps['id_column']}"
    mark = _assign_deleted(deleted_at, deleted=True) if deleted_at else unchanged
    unmark = _assign_deleted(deleted_at, deleted=False) if deleted_at else unchanged
    return Queries(
        bound=bound,
        apply_many=_render_apply(bound, gaps, read_gaps(read_sql(__package__, "apply_changes.sql"))),
        apply_one=_render_apply(bound, gaps, read_gaps(read_sql(__package__, "one_event.sql"))),
        mark_deleted=_render("mark_deleted.sql", gaps | {"mark": mark}),
        delete_rows=_render("delete_rows.sql", gaps | {"delete": _delete_clause(bound, email, gaps["table"])}),
        restore_user=_render("restore_user.sql", gaps | {"unmark": unmark}),
        resolve_keys=_render("resolve_keys.sql", gaps),
        link_rows=_render_link_rows(email, gaps),
        claims=tuple(_build_claim_queries(email, rule, gaps) for rule in list_unique_rules(bound.mapping, bound.table)),
    )


def _name_gaps(mapping: TableMapping) -> dict[str, str]:
    return {"table": quote_table(mapping.schema, mapping.table), "id_column": quote_ident(mapping.id_column)}


def _render(name: str, gaps: dict[str, str]) -> str:
    return fill_gaps(read_sql(__package__, name), gaps)


def _render_apply(bound: BoundMapping, names: dict[str, str], source: dict[str, str]) -> str:
    """Return the statement that applies one event or many; `source` has the input and the places of the long values."""
    columns, fields = bound.written_columns, bound.mapping.columns
    # Without other columns the ID is written, because only a written row is returned.
    updated = fields or [bound.mapping.id_column]
    gaps = names | {
        "columns": ", ".join(map(quote_ident, columns)),
        "values": ", ".join(f"r.{quote_ident(name)}" for name in columns),
        "definitions": ", ".join(f"{quote_ident(name)} {bound.column_types[name].type}" for name in columns),
        "updates": ", ".join(f"{quote_ident(name)} = excluded.{quote_ident(name)}" for name in updated),
        "shows_content": _compare_content(fields),
        "assignments": ", ".join(f"{quote_ident(name)} = r.{quote_ident(name)}" for name in fields),
        "input": source["input"],
        "payload": source["payload"],
        "user_row": source["user_row"],
        "update_first": "",
        "unless_updated": "",
        "or_updated": "",
    }
    if fields and find_unfilled_columns(bound.mapping, bound.table):
        step = read_gaps(read_sql(__package__, "update_first.sql"))
        gaps["update_first"] = fill_gaps(step["update_first"], gaps)
        gaps["unless_updated"] = fill_gaps(step["unless_updated"], gaps)
        gaps["or_updated"] = step["or_updated"]
    return _render("apply_changes.sql", gaps)


def _compare_content(names: Iterable[str]) -> str:
    theirs, ours = (", ".join(f"{row}.{quote_ident(name)}" for name in names) for row in ("theirs", "r"))
    return f"to_jsonb(row({theirs})) = to_jsonb(row({ours}))"


def _build_claim_queries(policy: EmailPolicy, rule: UniqueRule, names: dict[str, str]) -> ClaimQueries:
    name, bound = rule.column, policy.bound
    can_be_empty = policy.can_be_empty(name)
    gaps = (
        names
        | render_find_holder(bound, rule)
        | {
            "released": policy.empty_value(name),
            "definition": f"{quote_ident(name)} {bound.column_types[name].type}",
        }
    )
    return ClaimQueries(
        rule=rule,
        can_release=can_be_empty and bound.mapping.email_conflict == "release",
        released=policy.placeholder(name),
        find_holder=_render("find_holder.sql", gaps),
        release=_render("release_value.sql", gaps),
        restore=_render("restore_value.sql", gaps),
    )


def _render_link_rows(policy: EmailPolicy, names: dict[str, str]) -> str | None:
    if not (policy.bound.mapping.link_by_verified_email and policy.link_column):
        return None
    return _render("link_rows_by_email.sql", names | {"link_column": quote_ident(policy.link_column)})


# An operator may have cancelled the deletion: only rows of users with a tombstone are touched. The function reads the
# tombstone again after a wait for the row's lock, because PostgreSQL then evaluates the condition on the changed row.
_TOMBSTONED = """{id_column} = any(array(
        select known.clerk_id::{id_type} from clerk_sync.identities as known
        where known.clerk_id = any($1::text[]) and known.deleted_at is not null and exists (select from lock_timeout)
    )) and (clerk_sync.current_identity({id_column}::text)).deleted_at is not null"""


def _id_type(bound: BoundMapping) -> str:
    """Return the type in which IDs are compared: a cast to varchar(40) would make two long IDs equal."""
    column = bound.column_types[bound.mapping.id_column]
    return column.base if column.base in {"text", "varchar", "bpchar"} else column.type


def _delete_clause(bound: BoundMapping, email: EmailPolicy, table: str) -> str:
    """Return the first half of the statement that deletes, marks or anonymizes a deleted user's row."""
    mapping = bound.mapping
    if mapping.on_delete == "cascade":
        return f"delete from {table}"  # noqa: S608  quoted names
    changes = list(_anonymize(bound) if mapping.on_delete == "anonymize" else _release_emails(bound, email))
    if column := bound.table.column(mapping.deleted_at):
        changes.append(_assign_deleted(column, deleted=True))
    id_column = quote_ident(mapping.id_column)
    return f"update {table} set {', '.join(changes or [f'{id_column} = {id_column}'])}"  # noqa: S608  quoted names


def _anonymize(bound: BoundMapping) -> Iterator[str]:
    for name, field in bound.mapping.columns.items():
        if field.is_personal:
            value = scrub_expression(field, bound.column_types[name], quote_ident(bound.mapping.id_column))
            if value:
                yield f"{quote_ident(name)} = {value}"


def _release_emails(bound: BoundMapping, email: EmailPolicy) -> Iterator[str]:
    for name in email.columns:
        if email.can_be_empty(name):
            yield f"{quote_ident(name)} = {email.empty_value(name)}"
    # A column that the table generates from a JSON document loses its email in that document.
    for name, field in bound.mapping.columns.items():
        for key, source in field.extra_keys.items():
            if source == PRIMARY_EMAIL and bound.column_types[name].base == "jsonb":
                yield f"{quote_ident(name)} = {quote_ident(name)} || {quote_literal(json.dumps({key: None}))}"


def _assign_deleted(column: Column, *, deleted: bool) -> str:
    """Return the assignment that marks a row as deleted, or removes the mark. The first mark stays."""
    name = quote_ident(column.name)
    if column.base == "bool":
        return f"{name} = {'true' if deleted else 'false'}"
    if not deleted:
        return f"{name} = null"
    now = "(now() at time zone 'utc')" if column.base == "timestamp" else "now()"
    return f"{name} = coalesce({name}, {now})"
