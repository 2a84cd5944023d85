"""SQL that records the changes of the app's table, as parts of the statements that make them (pure)."""

from collections.abc import Iterable

from sync_service.mapping.binding import BoundMapping
from sync_service.mapping.deletion_marks import list_marks
from sync_service.mapping.table import TableMapping
from sync_service.postgres.sql import fill_gaps, quote_ident, quote_literal, read_gaps, read_sql

# The last part of the type of the entry for a deletion, by the mapping's `on_delete`.
DELETION_SUFFIXES = {"cascade": "deleted", "soft": "soft_deleted", "anonymize": "anonymized"}

_CHANGED_ROWS = """(
        select changed.clerk_id, false as is_new, changed.app_key, found.row_before, changed.row_after
        from {changed} as changed
        join {found} as found using (clerk_id)
    )"""


def render_recording(mapping: TableMapping, bound: BoundMapping, names: dict[str, str]) -> dict[str, str]:
    """Return the gaps of the steps that record changes; they are empty if the mapping records none.

    `mapping` is the owner's, with the columns that the table generates.
    """
    steps = read_gaps(read_sql(__package__, "record_changes.sql"))
    steps |= read_gaps(read_sql(__package__, "record_deletions.sql"))
    if not mapping.records_changes:
        return dict.fromkeys([*steps, "record_written", "record_linked", "record_mark"], "")
    gaps = names | _describe_content(mapping, bound) | {"is_final": "true"}
    gaps |= {"change_type": _quote_type(mapping, mapping.on_delete), "change_entity": quote_literal(mapping.entity)}
    parts = read_gaps(steps["record"])
    gaps |= {name: parts[name] if mapping.notifies else "" for name in ("delivery", "pending")}
    gaps["row_before"] = fill_gaps(steps["row_before"], gaps)
    written = {"change": fill_gaps(parts["change"], gaps), "unless_deleted": ""}
    changed = {
        "change": _CHANGED_ROWS.format(changed="changed", found="found"),
        "unless_deleted": parts["unless_deleted"],
    }
    linked = changed | {"change": _CHANGED_ROWS.format(changed="linked", found="locked")}
    mark = {"change_type": _quote_type(mapping, "soft"), "is_final": "false"}
    return {name: fill_gaps(text, gaps | changed) for name, text in steps.items()} | {
        "record_written": fill_gaps(steps["record"], gaps | written),
        "record_linked": fill_gaps(steps["record"], gaps | linked),
        "record_mark": fill_gaps(steps["record_deletion"], gaps | mark) if list_marks(bound) else "",
    }


def _describe_content(mapping: TableMapping, bound: BoundMapping) -> dict[str, str]:
    """Return SQL for the mapped columns and the ID of the row `app`, the field of the ID, and the names of both."""
    names = [*(name for name in mapping.columns if bound.table.column(name)), mapping.id_column]
    times = {name for name, field in mapping.columns.items() if field.is_now}
    return {
        "content": ", ".join(f"app.{quote_ident(name)}" for name in names),
        "id_field": quote_literal(f"f{len(names)}"),
        "column_names": _render_array(names),
        "content_names": _render_array(name for name in names if name not in times),
    }


def _quote_type(mapping: TableMapping, on_delete: str) -> str:
    return quote_literal(f"{mapping.entity}.{DELETION_SUFFIXES[on_delete]}")


def _render_array(names: Iterable[str]) -> str:
    return f"array[{', '.join(map(quote_literal, names))}]"
