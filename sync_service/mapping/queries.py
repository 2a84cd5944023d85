"""The SQL of one mapped table, built by pure functions: lookups from the mapping alone, the rest from its binding."""

from collections.abc import Sequence
from dataclasses import dataclass

from sync_service.mapping.assignments import Assignments, needs_update_first, render_assignments
from sync_service.mapping.binding import BoundMapping
from sync_service.mapping.change_recording import render_recording
from sync_service.mapping.child_queries import FamilyQueries, build_family_queries, render_entity_gaps
from sync_service.mapping.deletion_queries import build_deletion_queries
from sync_service.mapping.email_policy import EmailPolicy, read_email_policy
from sync_service.mapping.link_queries import build_link_queries
from sync_service.mapping.table import TableMapping
from sync_service.mapping.unique_rules import UniqueRule, list_unique_rules, render_find_holder
from sync_service.postgres.sql import fill_gaps, quote_ident, quote_literal, quote_table, read_gaps, read_sql


@dataclass(frozen=True, slots=True)
class LookupQueries:
    """Statements that need no knowledge of the table beyond its mapping."""

    row: str
    user_state: str
    users_by_email: str | None


@dataclass(frozen=True, slots=True)
class ClaimQueries:
    """Statements of one unique rule.

    `can_release`: a row may give its value up. `keeps_holder`: only a deleted user's row gives it up to another one,
    because the value may be the app's own. `released` replaces the value.
    """

    rule: UniqueRule
    can_release: bool
    keeps_holder: bool
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
    notification_rows: str
    find_missing: str
    compare_users: str
    list_deletable: str
    link_rows: str | None
    link_rows_by_key: str | None
    find_links: str | None
    find_links_by_key: str | None
    unmark_linked: str | None
    claims: tuple[ClaimQueries, ...]
    family: FamilyQueries

    def read_columns(self, columns: Sequence[str]) -> str:
        """Return a statement that reads some columns of a row from JSON; it fails if the type of one rejects its value.

        Its result is the row in JSON as the table shows it.
        """
        definitions = ", ".join(f"{quote_ident(name)} {self.bound.column_types[name].type}" for name in columns)
        return f"select to_jsonb(r) from jsonb_to_record($1::jsonb) as r ({definitions})"  # noqa: S608  quoted names


def build_lookup_queries(mapping: TableMapping) -> LookupQueries:
    """Return the statements that work before the table was read."""
    names = _name_gaps(mapping)
    return LookupQueries(
        row=_render("user_row.sql", names),
        user_state=_render("user_state.sql", names),
        users_by_email=_render_users_by_email(mapping, names),
    )


def _render_users_by_email(mapping: TableMapping, names: dict[str, str]) -> str | None:
    columns = [f"app.{quote_ident(name)}" for name, field in mapping.columns.items() if field.shows_email]
    matches = " or ".join(f"{column} = $1 or {column} = $2" for column in columns)
    return _render("users_by_email.sql", names | {"matches": f"({matches})"}) if columns else None


def build_queries(mapping: TableMapping, bound: BoundMapping) -> Queries:
    """Return the statements of a bound mapping; `mapping` is the owner's, with the columns that are not written."""
    email = read_email_policy(bound, tuple(n for n, field in mapping.columns.items() if field.shows_email))
    gaps = _name_gaps(mapping) | {
        "id_type": _id_type(bound),
        "key": quote_ident(bound.key),
        "deletion_type": quote_literal(mapping.deletion_type),
        "entity_name": quote_literal(mapping.entity),
    }
    gaps |= render_recording(mapping, bound, gaps)
    deletion, links = build_deletion_queries(bound, email, gaps), build_link_queries(bound, email, gaps)
    return Queries(
        bound=bound,
        apply_many=_render_apply(bound, gaps, read_gaps(read_sql(__package__, "apply_changes.sql"))),
        apply_one=_render_apply(bound, gaps, read_gaps(read_sql(__package__, "one_event.sql"))),
        mark_deleted=deletion.mark_deleted,
        delete_rows=deletion.delete_rows,
        restore_user=deletion.restore_user,
        resolve_keys=_render("resolve_keys.sql", gaps),
        notification_rows=_render("notification_rows.sql", gaps),
        find_missing=_render("find_missing.sql", gaps),
        compare_users=_render_comparison(bound, gaps),
        list_deletable=_render("list_deletable.sql", gaps | {"is_marked": _render_is_marked(bound)}),
        link_rows=links.by_email,
        link_rows_by_key=links.by_key,
        find_links=links.find_by_email,
        find_links_by_key=links.find_by_key,
        unmark_linked=links.unmark,
        claims=tuple(_build_claim_queries(email, rule, gaps) for rule in list_unique_rules(bound.mapping, bound.table)),
        family=build_family_queries(bound, gaps),
    )


def _name_gaps(mapping: TableMapping) -> dict[str, str]:
    return {"table": quote_table(mapping.schema, mapping.table), "id_column": quote_ident(mapping.id_column)}


def _render(name: str, gaps: dict[str, str]) -> str:
    return fill_gaps(read_sql(__package__, name), gaps)


def _render_apply(bound: BoundMapping, names: dict[str, str], source: dict[str, str]) -> str:
    """Return the statement that applies one event or many; `source` has the input and the places of the long values."""
    assignments = Assignments(bound, given=source["user_row"])
    gaps = names | {
        "columns": ", ".join(map(quote_ident, bound.written_columns)),
        "values": assignments.inserted_values,
        "definitions": assignments.definitions,
        "updated_definitions": assignments.updated_definitions,
        "shows_content": assignments.shows_content,
        "updates": assignments.render_updates("excluded"),
        "old_values": assignments.old_values,
        "new_values": assignments.render_new_values("excluded"),
        "input": source["input"],
        "payload": source["payload"],
        "user_row": source["user_row"],
        "update_first": "",
        "unless_updated": "",
        "or_updated": "",
        "or_found": "",
        **render_entity_gaps(bound.mapping, source),
    }
    if needs_update_first(bound):
        step = read_gaps(read_sql(__package__, "update_first.sql"))
        first = {"assignments": assignments.render_updates("r"), "new_values": assignments.render_new_values("r")}
        gaps["update_first"] = fill_gaps(step["update_first"], gaps | first)
        for name in ("unless_updated", "or_updated", "or_found"):
            gaps[name] = fill_gaps(step[name], gaps)
    return _render("apply_changes.sql", gaps)


def _render_comparison(bound: BoundMapping, names: dict[str, str]) -> str:
    assignments = Assignments(bound, given="input.user_row")
    gaps = {
        "updated_definitions": assignments.updated_definitions,
        "differing_columns": assignments.differing_columns,
    }
    return _render("compare_users.sql", names | gaps)


def _render_is_marked(bound: BoundMapping) -> str:
    """Return SQL that is true if the row of a deleted user may be in the table, because it is marked or anonymous."""
    if bound.mapping.on_delete == "cascade":
        return "false"
    deleted_at = bound.mapping.deleted_at
    return f"theirs.{quote_ident(deleted_at)} is not null" if deleted_at else "true"


def _build_claim_queries(policy: EmailPolicy, rule: UniqueRule, names: dict[str, str]) -> ClaimQueries:
    name, bound, quoted = rule.column, policy.bound, quote_ident(rule.column)
    field = bound.mapping.columns[name]
    can_be_empty = policy.can_be_empty(name)
    restored = f"r.{quoted}"
    if field.keep_on_null or field.insert_only:
        first, second = ("app", "r") if field.insert_only else ("r", "app")
        restored = f"coalesce({first}.{quoted}, {second}.{quoted})"
    gaps = (
        names
        | render_find_holder(bound, rule)
        | {
            "release": render_assignments(bound, {name: policy.empty_value(name)}, "app."),
            "restore": render_assignments(bound, {name: restored}, "app."),
            "definition": f"{quoted} {bound.column_types[name].type}",
        }
    )
    return ClaimQueries(
        rule=rule,
        can_release=can_be_empty and bound.mapping.email_conflict == "release",
        keeps_holder=field.keep_on_null or field.insert_only,
        released=policy.placeholder(name),
        find_holder=_render("find_holder.sql", gaps),
        release=_render("release_value.sql", gaps),
        restore=_render("restore_value.sql", gaps),
    )


def _id_type(bound: BoundMapping) -> str:
    """Return the type in which IDs are compared: a cast to varchar(40) would make two long IDs equal."""
    column = bound.column_types[bound.mapping.id_column]
    return column.base if column.base in {"text", "varchar", "bpchar"} else column.type
