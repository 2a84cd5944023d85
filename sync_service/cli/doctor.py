"""`doctor`: what stands in the way, why it matters, and what to run."""

import argparse
import asyncio
from collections import Counter
from collections.abc import Mapping

import msgspec
from rich.console import Console

from sync_service.cli.database import connected
from sync_service.cli.local import environ_or_dev
from sync_service.cli.types import Commands
from sync_service.doctor.clerk_keys import report_bad_settings
from sync_service.doctor.findings import KINDS, Finding, sort_findings
from sync_service.doctor.run import CheckRun
from sync_service.doctor.server import report_unreachable_database
from sync_service.errors import SettingsError, SyncError
from sync_service.settings import TO_SERVE, Settings, read_settings


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("doctor", help="what is wrong with settings, database and table, and what to run")
    parser.add_argument("--json", action="store_true", help="print for programs")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Look at all of it; return 0 when nothing is wrong, 2 when a setting is, else 1."""
    settings, faults = _settings(environ_or_dev(environ))
    found = list(report_bad_settings(faults))
    if settings:
        found += asyncio.run(_examine(settings))
    found = sort_findings(found)
    kinds = Counter(finding.kind for finding in found)
    if arguments.json:
        told = {"findings": found} | {kind: kinds[kind] for kind in KINDS}
        print(msgspec.json.format(msgspec.json.encode(told)).decode())
    else:
        print("\n\n".join(_told(finding) for finding in found))
        print(f"\nwrong: {kinds['wrong']}, warnings: {kinds['warning']}, notes: {kinds['note']}")
    return 2 if faults else 1 if kinds["wrong"] else 0


def _settings(environ: Mapping[str, str]) -> tuple[Settings | None, tuple[str, ...]]:
    """Return the settings without those that are wrong, and what is wrong; None without a mapping to go by."""
    try:
        return read_settings(environ, required=TO_SERVE), ()
    except SettingsError as error:
        wrong = {fault.partition(":")[0] for fault in error.faults}
        if "SYNC_CONFIG" in wrong:
            return None, error.faults
        right = {name: text for name, text in environ.items() if name.removesuffix("_FILE") not in wrong}
        return read_settings(right), error.faults


async def _examine(settings: Settings) -> list[Finding]:
    console = Console(stderr=True)
    with console.status("looking at the settings") as status:
        check_run = CheckRun(settings, lambda what: status.update(f"looking at {what}"))
        if settings.database is None:
            await check_run.check_clerk()
            return check_run.findings
        try:
            async with connected(settings.database) as connection:
                await check_run.check_database(connection)
        except SyncError as error:
            # What can be found without it, or was until then, is told all the same.
            if not check_run.findings:
                await check_run.check_clerk()
            return [report_unreachable_database(str(error).rstrip(".")), *check_run.findings]
    return check_run.findings


def _told(finding: Finding) -> str:
    lines = [f"{finding.kind.upper():8} {finding.what}  [{finding.code}]", f"         {finding.why}"]
    lines += [f"           {line}" for line in finding.lines]
    lines += [f"         - {line}" for line in finding.do]
    lines += ["         Run:"] * bool(finding.run)
    lines += [f"           {line}" for statement in finding.run for line in statement.splitlines()]
    return "\n".join(lines)
