"""SQL for the row of a deleted user: delete, mark, anonymize or restore it (pure)."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from sync_service.mapping.assignments import render_assignments
from sync_service.mapping.binding import BoundMapping
from sync_service.mapping.coercion import scrub_expression
from sync_service.mapping.computed_values import PRIMARY_EMAIL
from sync_service.mapping.deletion_marks import (
    can_unmark_linked,
    keeps_values,
    list_marks,
    render_kept_values,
    render_unmark,
)
from sync_service.mapping.email_policy import EmailPolicy
from sync_service.mapping.unique_rules import list_unique_rules
from sync_service.postgres.sql import fill_gaps, quote_ident, quote_literal, read_gaps, read_sql

# An operator may have cancelled the deletion: only rows of users with a tombstone are touched.
_TOMBSTONED = """{id_column} = any(array(
        select known.clerk_id::{id_type} from clerk_sync.identities as known
        where known.clerk_id = any($1::text[]) and known.deleted_at is not null and exists (select from lock_timeout)
    ))"""

# The values before the deletion, in restore_user.sql.
_KEPT = "(select values_before from kept)"


@dataclass(frozen=True, slots=True)
class DeletionQueries:
    """The statements of mapping/sql with these names."""

    mark_deleted: str
    delete_rows: str
    restore_user: str


def build_deletion_queries(bound: BoundMapping, email: EmailPolicy, names: dict[str, str]) -> DeletionQueries:
    """Return the statements of a bound mapping."""
    gaps = names | {"tombstoned": _TOMBSTONED.format(**names)}
    gaps["is_other"] = f"(e.type = {names['deletion_type']} and e.id <> all($2))"
    keeping = _render_keeping(bound, gaps)
    # Only a soft deletion can be undone after its end.
    final = keeping if bound.mapping.on_delete == "soft" else keeping | {"values_before": "", "keep": keeping["forget"]}
    id_column = bound.mapping.id_column
    mark = render_assignments(bound, list_marks(bound) or {id_column: quote_ident(id_column)})
    return DeletionQueries(
        mark_deleted=_render("mark_deleted.sql", gaps | keeping | {"mark": mark}),
        delete_rows=_render("delete_rows.sql", gaps | final | {"delete": _delete_clause(bound, email, gaps["table"])}),
        restore_user=_render("restore_user.sql", gaps | {"unmark": render_unmark(bound, _KEPT)}),
    )


def _render(name: str, gaps: dict[str, str]) -> str:
    return fill_gaps(read_sql(__package__, name), gaps)


def _render_keeping(bound: BoundMapping, names: dict[str, str]) -> dict[str, str]:
    """Return the gaps of keep_values.sql; they are empty if no value must be kept."""
    steps = read_gaps(read_sql(__package__, "keep_values.sql"))
    if not (keeps_values(bound) or can_unmark_linked(bound)):
        return dict.fromkeys(steps, "")
    values_before = fill_gaps(steps["values_before"], names | {"kept_values": render_kept_values(bound)})
    return steps | {"values_before": values_before}


def _delete_clause(bound: BoundMapping, email: EmailPolicy, table: str) -> str:
    """Return the first half of the statement that deletes, marks or anonymizes a deleted user's row."""
    mapping = bound.mapping
    if mapping.on_delete == "cascade":
        return f"delete from {table}"  # noqa: S608  quoted names
    values = dict(_anonymize(bound) if mapping.on_delete == "anonymize" else _release_emails(bound, email))
    values |= list_marks(bound)
    id_column = quote_ident(mapping.id_column)
    return f"update {table} set {render_assignments(bound, values or {mapping.id_column: id_column})}"  # noqa: S608  quoted


def _anonymize(bound: BoundMapping) -> Iterator[tuple[str, str]]:
    for name, field in bound.mapping.columns.items():
        if field.is_personal:
            value = scrub_expression(field, bound.column_types[name], quote_ident(bound.mapping.id_column))
            if value:
                yield name, value


def _release_emails(bound: BoundMapping, email: EmailPolicy) -> Iterator[tuple[str, str]]:
    unique = {rule.column for rule in list_unique_rules(bound.mapping, bound.table)}
    for name in email.columns:
        # Later the app writes the other columns that are written on insert only.
        is_released = name in unique or not bound.mapping.columns[name].insert_only
        if is_released and email.can_be_empty(name):
            yield name, email.empty_value(name)
    # A column that the table generates from a JSON document loses its email in that document.
    for name, field in bound.mapping.columns.items():
        for key, source in field.extra_keys.items():
            if source == PRIMARY_EMAIL and bound.column_types[name].base == "jsonb":
                yield name, f"{quote_ident(name)} || {quote_literal(json.dumps({key: None}))}"
