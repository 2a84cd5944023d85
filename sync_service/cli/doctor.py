"""`doctor`: print each problem of settings, database and table, its effect, and the commands that fix it."""

import argparse
import asyncio
from collections import Counter
from collections.abc import Mapping

import msgspec
from rich.console import Console

from sync_service.cli.arguments import Commands, add_json_option
from sync_service.cli.database import open_connection
from sync_service.dev.state import with_dev_defaults
from sync_service.doctor.findings import KINDS, Finding, group_findings, sort_findings
from sync_service.doctor.server import report_unreachable_database
from sync_service.errors import SettingsError, SyncError
from sync_service.settings import REQUIRED_TO_SERVE, Settings, read_settings
from sync_service.terminal import print_text


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "doctor", help="check settings, database and table; print problems and how to fix them"
    )
    parser.add_argument("--all", action="store_true", help="print similar findings one by one; --json always does")
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run all checks; return 2 if a setting is wrong, 1 if something else is, otherwise 0."""
    # This imports the HTTP client, which takes a quarter of a second that other commands need not spend.
    from sync_service.doctor.clerk_keys import report_bad_settings  # noqa: PLC0415

    settings, setting_errors = _read_valid_settings(with_dev_defaults(environ))
    findings = list(report_bad_settings(setting_errors))
    if settings:
        findings += asyncio.run(_run_checks(settings))
    findings = sort_findings(findings)
    counts = Counter(finding.kind for finding in findings)
    if arguments.json:
        report = {"findings": findings} | {kind: counts[kind] for kind in KINDS}
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        shown = findings if arguments.all else group_findings(findings)
        print_text("\n\n".join(_format_finding(finding) for finding in shown))
        print(f"\nwrong: {counts['wrong']}, warnings: {counts['warning']}, notes: {counts['note']}")
    if setting_errors:
        return 2
    return 1 if counts["wrong"] else 0


def _read_valid_settings(environ: Mapping[str, str]) -> tuple[Settings | None, tuple[str, ...]]:
    """Return the settings without the wrong ones, and the errors. A wrong mapping leaves no settings to check."""
    try:
        return read_settings(environ, required=REQUIRED_TO_SERVE), ()
    except SettingsError as error:
        wrong = {line.partition(":")[0] for line in error.errors}
        if "SYNC_CONFIG" in wrong:
            return None, error.errors
        valid = {name: text for name, text in environ.items() if name.removesuffix("_FILE") not in wrong}
        return read_settings(valid), error.errors


async def _run_checks(settings: Settings) -> list[Finding]:
    from sync_service.doctor.run import CheckRun  # noqa: PLC0415  as in `run`

    console = Console(stderr=True)
    with console.status("checking the settings") as status:
        checks = CheckRun(settings, lambda subject: status.update(f"checking {subject}"))
        if settings.database is None:
            await checks.check_clerk()
            return checks.findings
        try:
            async with open_connection(settings) as connection:
                await checks.check_database(connection)
        except SyncError as error:
            # The checks that need no database run all the same, and earlier findings are kept.
            if not checks.findings:
                await checks.check_clerk()
            return [report_unreachable_database(str(error).rstrip(".")), *checks.findings]
    return checks.findings


def _format_finding(finding: Finding) -> str:
    lines = [f"{finding.kind.upper():8} {finding.what}  [{finding.code}]", f"         {finding.why}"]
    lines += [f"           {line}" for line in finding.lines]
    lines += [f"         - {line}" for line in finding.do]
    if finding.run:
        lines.append("         Run:")
    lines += [f"           {line}" for statement in finding.run for line in statement.splitlines()]
    return "\n".join(lines)
