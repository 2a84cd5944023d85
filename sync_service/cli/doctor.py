"""`doctor`: print each problem of settings, database and table, its effect, and the commands that fix it."""

import argparse
import asyncio
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import msgspec
from rich.console import Console

from sync_service.cli.arguments import Commands
from sync_service.cli.database import open_connection
from sync_service.dev.state import with_dev_defaults
from sync_service.doctor.findings import KINDS, Finding, Kind, group_findings, sort_findings
from sync_service.doctor.rules import read_rules
from sync_service.doctor.sarif import build_sarif
from sync_service.doctor.server import report_unreachable_database
from sync_service.documentation import get_page_uri, read_page
from sync_service.errors import SettingsError, SyncError
from sync_service.settings import MAPPING_FILE, REQUIRED_TO_SERVE, Settings, read_settings
from sync_service.terminal import print_text

# The kinds of findings that end the command with status 1, by `--fail-on`.
_FAILING_KINDS: Mapping[str, tuple[Kind, ...]] = MappingProxyType(
    {"error": ("wrong",), "warning": ("wrong", "warning")}
)


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "doctor", help="check settings, database and table; print problems and how to fix them"
    )
    parser.add_argument("--all", action="store_true", help="print similar findings one by one; --json always does")
    parser.add_argument("--format", choices=("text", "json", "sarif"), default="text", help="output format (text)")
    parser.add_argument("--json", dest="format", action="store_const", const="json", help="same as --format json")
    parser.add_argument(
        "--fail-on",
        choices=tuple(_FAILING_KINDS),
        help="for a pipeline: the lowest kind of finding with status 1 (error); needs no signing secret",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run all checks; return 2 if a setting is wrong, 1 if something else is, otherwise 0."""
    # This imports the HTTP client, which takes a quarter of a second that other commands need not spend.
    from sync_service.doctor.clerk_keys import report_bad_settings  # noqa: PLC0415

    required = REQUIRED_TO_SERVE if arguments.fail_on is None else ("DATABASE_URL",)
    settings, setting_errors = _read_valid_settings(with_dev_defaults(environ), required)
    findings = list(report_bad_settings(setting_errors))
    if settings:
        receives_webhooks = arguments.fail_on is None or bool(settings.clerk_webhook_signing_secrets)
        findings += asyncio.run(_run_checks(settings, receives_webhooks=receives_webhooks))
    findings = sort_findings(findings)
    _print_report(findings, arguments, environ)
    if setting_errors:
        return 2
    failing = _FAILING_KINDS[arguments.fail_on or "error"]
    return 1 if any(finding.kind in failing for finding in findings) else 0


def _print_report(findings: list[Finding], arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    match arguments.format:
        case "json":
            counts = Counter(finding.kind for finding in findings)
            _print_json({"findings": findings} | {kind: counts[kind] for kind in KINDS})
        case "sarif":
            _print_json(_describe_findings(findings, environ))
        case _:
            _print_findings(findings, group=not arguments.all)


def _print_json(report: Any) -> None:
    print(msgspec.json.format(msgspec.json.encode(report)).decode())


def _print_findings(findings: list[Finding], *, group: bool) -> None:
    shown = group_findings(findings) if group else findings
    print_text("\n\n".join(_format_finding(finding) for finding in shown))
    counts = Counter(finding.kind for finding in findings)
    print(f"\nwrong: {counts['wrong']}, warnings: {counts['warning']}, notes: {counts['note']}")


def _describe_findings(findings: list[Finding], environ: Mapping[str, str]) -> dict[str, Any]:
    return build_sarif(
        findings,
        read_rules(read_page("doctor")),
        version=version("sync-service"),
        page_uri=get_page_uri("doctor"),
        mapping_file=quote(environ.get("SYNC_CONFIG") or MAPPING_FILE),
    )


def _read_valid_settings(
    environ: Mapping[str, str], required: tuple[str, ...]
) -> tuple[Settings | None, tuple[str, ...]]:
    """Return the settings without the wrong ones, and the errors. A wrong mapping leaves no settings to check."""
    try:
        return read_settings(environ, required=required), ()
    except SettingsError as error:
        wrong = {line.partition(":")[0] for line in error.errors}
        if "SYNC_CONFIG" in wrong:
            return None, error.errors
        valid = {name: text for name, text in environ.items() if name.removesuffix("_FILE") not in wrong}
        return read_settings(valid), error.errors


async def _run_checks(settings: Settings, *, receives_webhooks: bool) -> list[Finding]:
    from sync_service.doctor.run import CheckRun  # noqa: PLC0415  as in `run`

    console = Console(stderr=True)
    with console.status("checking the settings") as status:
        checks = CheckRun(
            settings,
            lambda subject: status.update(f"checking {subject}"),
            receives_webhooks=receives_webhooks,
        )
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
