"""`reconcile`: compare all users of Clerk with the table, and repair the rows. It is also the first import."""

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import httpx2
import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sync_service.clerk.client import ClerkClient
from sync_service.clerk.user_list import LIST_TIMEOUT, UserList, create_limiter
from sync_service.cli.arguments import Commands, add_json_option
from sync_service.cli.database import open_connection, require_dsn
from sync_service.dev.state import load_settings
from sync_service.errors import ClerkUnavailable, SchemaError, SettingsError, SyncError
from sync_service.logs import configure_logging
from sync_service.postgres.migrate import read_schema_state
from sync_service.postgres.pool import open_database
from sync_service.settings import Settings
from sync_service.store.access import Store
from sync_service.store.reconciles import hold_run_lock
from sync_service.sync.apply import Applier
from sync_service.sync.drift_report import MAX_EXAMPLES, Report
from sync_service.sync.reconcile import Reconciler
from sync_service.terminal import escape_value

log = structlog.get_logger()

# Seconds between two log lines about the progress.
LOG_INTERVAL = 5.0


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
    if arguments.from_inbox and arguments.recent:
        raise SettingsError(["reconcile: --recent asks Clerk, and --from-inbox does not; use one of them"])
    required = ("DATABASE_URL",) if arguments.from_inbox else ("DATABASE_URL", "CLERK_SECRET_KEY")
    settings = load_settings(environ, *required)
    configure_logging(level=settings.log_level, form=settings.log_format)
    report = asyncio.run(_reconcile(settings, arguments))
    if arguments.json:
        print(json.dumps(report.to_json()))
    else:
        print("\n".join(map(escape_value, _format_report(report))))
    for problem in filter(None, (report.error, _describe_mass_deletion(report))):
        print(f"sync-service: {problem}", file=sys.stderr)
    return 0 if report.is_clean else 1


async def _reconcile(settings: Settings, arguments: argparse.Namespace) -> Report:
    database = await open_database(require_dsn(settings))
    async with (
        contextlib.aclosing(database),
        _hold_lock(settings, needed=not arguments.dry_run),
        httpx2.AsyncClient() as client,
    ):
        users = None if arguments.from_inbox else _create_list(settings, client)
        with _show_progress(await _count_users(users)) as show:
            reconciler = Reconciler(
                Applier(Store(database, settings.mapping), max_attempts=settings.sync_max_attempts),
                users,
                instance_id=settings.clerk_instance_id,
                dry_run=arguments.dry_run,
                recent=arguments.recent,
                allow_mass_delete=arguments.allow_mass_delete,
                on_progress=show,
            )
            return await reconciler.run()


def _create_list(settings: Settings, client: httpx2.AsyncClient) -> UserList:
    key = settings.clerk_secret_key
    assert key is not None  # noqa: S101  `load_settings` requires it
    return UserList(ClerkClient(client, settings.clerk_api_url, key, timeout=LIST_TIMEOUT), create_limiter(key))


@contextlib.asynccontextmanager
async def _hold_lock(settings: Settings, *, needed: bool) -> AsyncIterator[None]:
    async with open_connection(settings) as connection:
        state = await read_schema_state(connection)
        if not state.is_ready:
            raise SchemaError(str(state))
        if not needed:
            yield
            return
        async with hold_run_lock(connection) as is_held:
            if not is_held:
                raise SyncError("Another reconcile is running. Wait for its end, or stop it; then start this command.")
            yield


async def _count_users(users: UserList | None) -> int | None:
    """Return the number of users for the progress bar, or None. Without a terminal there is no bar."""
    if users is None or not sys.stderr.isatty():
        return None
    with contextlib.suppress(ClerkUnavailable):
        return await users.count()
    return None


@contextlib.contextmanager
def _show_progress(total: int | None) -> Iterator[Callable[[Report], None]]:
    """Yield a function that shows the progress: as a bar on a terminal, as log lines elsewhere."""
    console = Console(stderr=True)
    next_line = time.monotonic() + LOG_INTERVAL
    columns = (
        TextColumn("reconciling"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.speed:.0f}/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=total)

        def show(report: Report) -> None:
            nonlocal next_line
            progress.update(bar, completed=report.users)
            if not console.is_terminal and time.monotonic() >= next_line:
                next_line = time.monotonic() + LOG_INTERVAL
                log.info("reconciling", users=report.users, drift=report.drift, repaired=report.repaired)

        yield show


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
