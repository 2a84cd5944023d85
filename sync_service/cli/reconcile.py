"""`reconcile`: compare all users of Clerk with the table, and repair the rows. It is also the first import."""

import argparse
import sys
from collections.abc import Mapping

from sync_service.cli.arguments import Commands, add_json_option
from sync_service.cli.reconcile_report import format_json, format_report, list_problems
from sync_service.dev.state import load_settings
from sync_service.errors import SettingsError
from sync_service.logs import configure_logging
from sync_service.terminal import escape_value


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("reconcile", help="compare all users of Clerk with the table, and repair the rows")
    parser.add_argument("--dry-run", action="store_true", help="only report; the exit status is 1 if rows differ")
    parser.add_argument(
        "--values", action="store_true", help="with --dry-run: also print the values that differ, which are personal"
    )
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
    if arguments.values and not arguments.dry_run:
        raise SettingsError(["reconcile: --values belongs to --dry-run, which prints the first differences"])
    required = ("DATABASE_URL",) if arguments.from_inbox else ("DATABASE_URL", "CLERK_SECRET_KEY")
    settings = load_settings(environ, *required)
    configure_logging(level=settings.log_level, form=settings.log_format)
    report = reconcile(settings, arguments)
    lines = format_json(report, with_values=arguments.values) if arguments.json else format_report(report)
    print("\n".join(map(escape_value, lines)))
    for problem in list_problems(report):
        print(f"sync-service: {problem}", file=sys.stderr)
    return 0 if report.is_clean else 1
