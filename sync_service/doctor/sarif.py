"""Findings as a SARIF 2.1.0 log, which code hosts show beside a change (pure).

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sync_service.doctor.findings import Finding, Kind
from sync_service.doctor.rules import Rule

LEVELS: Mapping[Kind, str] = {"wrong": "error", "warning": "warning", "note": "note"}


def build_sarif(
    findings: Sequence[Finding], rules: Mapping[str, Rule], *, version: str, page_uri: str, mapping_file: str
) -> dict[str, Any]:
    """Return a log with one run. `page_uri` is the page that describes the rules.

    Code hosts show a result only if it has a place in a file. A finding concerns the mapping and its table, so the
    place is `mapping_file`.
    """
    used = sorted({finding.code for finding in findings})
    driver = {
        "name": "sync-service doctor",
        "version": version,
        "rules": [_build_rule(code, rules[code], page_uri) for code in used],
    }
    results = [_build_result(finding, used.index(finding.code), mapping_file) for finding in findings]
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
    }


def _build_rule(code: str, rule: Rule, page_uri: str) -> dict[str, Any]:
    return {
        "id": code,
        "shortDescription": {"text": rule.meaning},
        "helpUri": f"{page_uri}#{rule.anchor}",
        "help": {"text": f"{rule.meaning}. `sync-service docs doctor` describes each code."},
    }


def _build_result(finding: Finding, rule_index: int, mapping_file: str) -> dict[str, Any]:
    return {
        "ruleId": finding.code,
        "ruleIndex": rule_index,
        "level": LEVELS[finding.kind],
        "message": {"text": _format_message(finding)},
        "locations": [
            {"physicalLocation": {"artifactLocation": {"uri": mapping_file}, "region": {"startLine": 1}}},
        ],
    }


def _format_message(finding: Finding) -> str:
    sections = [finding.what, finding.why]
    if finding.do:
        sections.append("\n".join(f"- {step}" for step in finding.do))
    if finding.run:
        sections.append("\n".join(["Run:", *finding.run]))
    return "\n\n".join(sections)
