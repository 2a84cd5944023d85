"""The report of a reconcile as text and as JSON (pure)."""

import json
from collections.abc import Iterator

from sync_service.store.links import LinkKind
from sync_service.sync.drift_report import MAX_EXAMPLES, Example, Report


def format_report(report: Report) -> Iterator[str]:
    """Yield the lines of the report. Only a dry run has the first differences."""
    kinds = ", ".join(f"{kind}: {getattr(report, kind)}" for kind in ("missing", "stale", "differing", "deleted"))
    compared = ", ".join(f"{count} {section}" for section, count in ({"users": report.users} | report.related).items())
    yield f"{compared} compared in {report.seconds:.1f} s. {kinds}"
    if report.dry_run:
        yield "A dry run writes no row."
    else:
        yield f"repaired: {report.repaired}, refused: {report.refused}, failed: {report.failed}"
    yield from _format_links(report)
    if report.columns:
        by_count = sorted(report.columns.items(), key=lambda entry: (-entry[1], entry[0]))
        yield f"columns that differed: {', '.join(f'{name} {count}' for name, count in by_count)}"
    if report.dry_run:
        yield from _format_examples(report)


def _format_examples(report: Report) -> Iterator[str]:
    objects = "users and other objects" if report.related else "users"
    if report.examples:
        yield f"first {MAX_EXAMPLES} {objects}:" if report.drift > MAX_EXAMPLES else f"{objects}:"
    for example in report.examples:
        yield from _format_example(example)


def _format_links(report: Report) -> Iterator[str]:
    if not (report.links and report.missing):
        return
    counts = {kind.value: report.links.get(kind, 0) for kind in LinkKind}
    counts["new row"] = report.missing - sum(counts.values())
    yield f"missing users by their row: {', '.join(f'{kind} {count}' for kind, count in counts.items())}"


def _format_example(example: Example) -> Iterator[str]:
    columns = ", ".join(example.columns)
    yield "  ".join(["", example.clerk_id, example.kind, example.link.kind.value if example.link else columns]).rstrip()
    for name, (old, new) in example.values.items():
        yield f"    {name}: {json.dumps(old, ensure_ascii=False)} → {json.dumps(new, ensure_ascii=False)}"


def format_json(report: Report, *, with_values: bool) -> Iterator[str]:
    """Yield the report as one line. With values, the first differences come before it, each on a line of its own."""
    for example in report.examples if with_values else ():
        link = {"link": example.link.kind.value} if example.link else {}
        columns = {name: example.values.get(name) for name in example.columns}
        yield json.dumps({"clerk_id": example.clerk_id, "finding": example.kind, "columns": columns} | link)
    yield json.dumps(report.to_json())


def list_problems(report: Report) -> Iterator[str]:
    """Yield the reasons why work is left, with the remedy of each."""
    if report.error:
        yield report.error
    for section, number in report.refused_deletions.items():
        yield (
            f"{number} {section} are no longer in Clerk. That is more than 5 % of all {section}, so none of them was"
            " deleted. If it is right, add --allow-mass-delete."
        )
    failed = report.failed - sum(report.unlisted.values())
    if failed > 0:
        yield (
            f"{failed} objects failed. The log names those that cannot be read, as objects_unreadable: their fields do"
            " not have Clerk's types. For the others, such as a row that your app has locked, run the command again."
        )
    for section, number in report.unlisted.items():
        yield (
            f"Clerk counts {number} {section} more than its lists have shown. The other {section} were compared."
            " Run the command again."
        )
