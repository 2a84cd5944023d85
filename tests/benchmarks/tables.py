"""The figures of README and of the documentation as Markdown tables, from the results of benchmarks (pure)."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

Row = Mapping[str, Any]
# The results of a benchmark: the machine's description, and `rows`.
Result = Mapping[str, Any]


def render_tables(results: Mapping[str, Result]) -> str:
    """Return a line about the machine, and a table for each benchmark."""
    tables = ["\n".join(TABLES[name](result["rows"])) for name, result in results.items()]
    return "\n\n".join([_describe(list(results.values())), *tables])


def _describe(results: Sequence[Result]) -> str:
    days = sorted({date.fromisoformat(one["date"]) for one in results})
    writes = sorted(one["durable_write_ms"] for one in results)
    about = results[0]
    programs = f"PostgreSQL {about['postgresql']}, Python {about['python']}"
    programs += f", Node.js {about['node']}" if about["node"] else ""
    span = f"{writes[0]:g}" if writes[0] == writes[-1] else f"{writes[0]:g} to {writes[-1]:g}"
    return (
        f"{' and '.join(f'{day.day} {day:%B %Y}' for day in days)}: {about['cores']} cores ({about['machine']}),"
        f" {about['memory_gb']} GB of memory, {programs}. A durable write takes {span} ms."
    )


def _render_load(rows: Sequence[Row]) -> list[str]:
    targets = _list_targets(rows)
    lines = _render_head("clients: webhooks per second; p50, p99, p99.9 in ms", *targets, "of (b)")
    lines += _render_comparison(rows, "clients", lambda row: f"{row['rate']:,.0f}; {_join(row, 'p50', 'p99', 'p999')}")
    busy = [row for row in rows if row["clients"] == 64]
    costs = {
        "64: CPU of 1,000 in the process and in PostgreSQL, s": [
            f"{row['cpu']:.2f}, {row['cpu_postgres']:.2f}" for row in busy
        ],
        "64: memory of the process, MB": [f"{row['megabytes']:.0f}" for row in busy],
        "64: bytes of WAL and of disk for each": [f"{row['wal']:,.0f}, {row['disk']:,.0f}" for row in busy],
    }
    return lines + [_render_line(name, *cells, "") for name, cells in costs.items()]


def _render_growth(rows: Sequence[Row]) -> list[str]:
    targets = _list_targets(rows)
    lines = _render_head("users: updates per second, of the rate with the fewest, WAL", *targets, "of (b)")
    return lines + _render_comparison(
        rows, "users", lambda row: f"{row['rate']:,.0f}; {row['of_smallest']:.2f}; {row['wal'] / 1000:.1f} kB"
    )


def _render_comparison(rows: Sequence[Row], key: str, render_cell: Callable[[Row], str]) -> list[str]:
    """Return a line for each value of the key, with a cell for each target and the ratio to the usual handler."""
    lines = []
    for value in dict.fromkeys(row[key] for row in rows):
        mine = [row for row in rows if row[key] == value]
        lines.append(_render_line(f"{value:,}", *map(render_cell, mine), f"{mine[-1]['of_usual']:.2f}"))
    return lines


def _render_storms(rows: Sequence[Row]) -> list[str]:
    targets = _list_targets(rows)
    lines = _render_head("storm: per second; CPU of 1,000, s", *targets)
    for storm in dict.fromkeys(row["storm"] for row in rows):
        mine = {row["target"]: row for row in rows if row["storm"] == storm}
        cells = [_describe_storm(mine[target]) if target in mine else "" for target in targets]
        lines.append(_render_line(f"{next(iter(mine.values()))['number']:,} {storm}", *cells))
    return lines


def _describe_storm(row: Row) -> str:
    return f"{row['rate']:,.0f}; {row['cpu']:.2f}, {row['cpu_postgres']:.2f}"


def _render_login(rows: Sequence[Row]) -> list[str]:
    lines = _render_head(
        "clients, lookup: per second; p50, p99 in ms", "(a) one SELECT, bare route", "sync-service", "of (a)"
    )
    for row in rows:
        bare = f"{row['bare_rate']:,.0f}; {_join(row, 'bare_p50', 'bare_p99')}"
        own = f"{row['rate']:,.0f}; {_join(row, 'p50', 'p99')}"
        route, _, rest = row["lookup"].partition(", ")
        name = f"{row['clients']}, `{route}`{rest and f', {rest}'}"
        lines.append(_render_line(name, bare, own, f"{row['of_bare']:.2f}"))
    return lines


def _render_processes(rows: Sequence[Row]) -> list[str]:
    lines = _render_head(
        "processes",
        "webhooks per second",
        "p50, p99 in ms",
        "CPU of 1,000 in the processes and in PostgreSQL, s",
        "share of a process",
        "waits for locks on rows",
    )
    for row in rows:
        cells = f"{row['rate']:,.0f}", _join(row, "p50", "p99"), f"{row['cpu']:.2f}, {row['cpu_postgres']:.2f}"
        shares = f"{row['least']:.2f} to {row['most']:.2f}" if row["processes"] > 1 else "1.00"
        lines.append(_render_line(f"{row['processes']}", *cells, shares, f"{row['row_waits']:.1%}"))
    return lines


def _render_endurance(rows: Sequence[Row]) -> list[str]:
    lines = _render_head("minute", "memory, MB", "webhooks per second", "p50, p99, p99.9 in ms", "CPU")
    step = max(len(rows) // 12, 1)
    for row in [*rows[: 1 if step > 1 else 0], *rows[step - 1 :: step]]:
        cells = f"{row['megabytes']:.1f}", f"{row['rate']:.0f}", _join(row, "p50", "p99", "p999"), f"{row['cpu']:.0%}"
        lines.append(_render_line(f"{row['minute']}", *cells))
    return lines


TABLES: dict[str, Callable[[Sequence[Row]], list[str]]] = {
    "load": _render_load,
    "growth": _render_growth,
    "storms": _render_storms,
    "login": _render_login,
    "processes": _render_processes,
    "endurance": _render_endurance,
}


def _list_targets(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["target"] for row in rows))


def _render_head(*cells: str) -> list[str]:
    return [_render_line(*cells), _render_line(*(["---"] * len(cells)))]


def _render_line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _join(row: Row, *names: str) -> str:
    return ", ".join(_format_milliseconds(row[name]) for name in names)


def _format_milliseconds(value: float) -> str:
    if value < 1:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"
