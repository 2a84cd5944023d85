"""`reconcile`: compare all users of Clerk with the table, and repair the rows. It is also the first import."""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator, Mapping

from sync_service.cli.arguments import Commands, add_json_option
from sync_service.dev.state import load_settings
from sync_service.errors import SettingsError
from sync_service.logs import configure_logging
from sync_service.sync.drift_report import MAX_EXAMPLES, Report
from sync_service.terminal import escape_value


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("reconcile", help="compare all users of Clerk with the table, and repair the rows")
    parser.add_argument("--dry-run", action="store_true", help="only report; the exit status is 1 if rows differ")
    parser.add_argument("--recent", action="store_true", help="compare only the users changed since the last run")
    parser.add_argument(
        "--allow-mass-delete", action="store_true", help="delete also more than 10 users and 5 %% that Clerk has lost"
    )
    parser.add_argument(
        "--from-inbox", action="store_true", help="without Clerk: write the last state of each user in the inbox again"
    )
    add_json_option(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from sync_service.cli.reconcile_run import reconcile  # noqa: PLC0415  slow import: the HTTP client

    if arguments.from_inbox and arguments.recent:
        raise SettingsError(["reconcile: --recent asks Clerk, and --from-inbox does not; use one of them"])
    required = ("DATABASE_URL",) if arguments.from_inbox else ("DATABASE_URL", "CLERK_SECRET_KEY")
    settings = load_settings(environ, *required)
    configure_logging(level=settings.log_level, form=settings.log_format)
    report = asyncio.run(reconcile(settings, arguments))
    if arguments.json:
        print(json.dumps(report.to_json()))
    else:
        print("\n".join(map(escape_value, _format_report(report))))
    for problem in filter(None, (report.error, _describe_mass_deletion(report), _describe_unlisted(report))):
        print(f"sync-service: {problem}", file=sys.stderr)
    return 0 if report.is_clean else 1


def _format_report(report: Report) -> Iterator[str]:
    kinds = ", ".join(f"{kind}: {getattr(report, kind)}" for kind in ("missing", "stale", "differing", "deleted"))
    yield f"{report.users} users compared in {report.seconds:.1f} s. {kinds}"
    if report.dry_run:
        yield "A dry run writes no row."
    else:
        yield f"repaired: {report.repaired}, refused: {report.refused}, failed: {report.failed}"
    if report.columns:
        counts = sorted(report.columns.items(), key=lambda entry: (-entry[1], entry[0]))
        yield f"columns that differed: {', '.join(f'{name} {count}' for name, count in counts)}"
    if report.dry_run and report.examples:
        yield f"first {MAX_EXAMPLES} users:" if report.drift > MAX_EXAMPLES else "users:"
        for clerk_id, kind, columns in report.examples:
            yield "  ".join(["", clerk_id, kind, ", ".join(columns)]).rstrip()


def _describe_mass_deletion(report: Report) -> str | None:
    if not report.is_mass_deletion_refused:
        return None
    return (
        f"{report.deleted} users are no longer in Clerk. That is more than 5 % of all users, so none of them was"
        " deleted. If it is right, add --allow-mass-delete."
    )


def _describe_unlisted(report: Report) -> str | None:
    if not report.unlisted:
        return None
    return (
        f"Clerk counts {report.unlisted} users more than its lists have shown. The other users were compared."
        " Run the command again."
    )
