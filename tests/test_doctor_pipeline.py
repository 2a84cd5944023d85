"""`doctor` in a pipeline: SARIF, the lowest failing kind, and no secret of Clerk."""

import json
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import asyncpg
import jsonschema
import yaml

from sync_service import cli
from sync_service.doctor.findings import KINDS, Finding
from sync_service.doctor.rules import read_rules
from sync_service.doctor.sarif import LEVELS, build_sarif
from sync_service.documentation import get_page_uri, read_page
from sync_service.settings import iter_setting_names
from tests.processes import run_here

TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
ARTIFACT = {"type": "object", "required": ["uri"], "properties": {"uri": {"type": "string", "format": "uri-reference"}}}

# The properties of SARIF 2.1.0 (OASIS, section 3) that the doctor writes, with their types and obligations.
SARIF: dict[str, Any] = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {"type": "array", "items": {"$ref": "#/$defs/run"}},
    },
    "additionalProperties": False,
    "$defs": {
        "run": {
            "type": "object",
            "required": ["tool"],
            "properties": {
                "tool": {
                    "type": "object",
                    "required": ["driver"],
                    "properties": {"driver": {"$ref": "#/$defs/driver"}},
                    "additionalProperties": False,
                },
                "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                "results": {"type": "array", "items": {"$ref": "#/$defs/result"}},
            },
            "additionalProperties": False,
        },
        "driver": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string"},
                "version": {"type": "string"},
                "rules": {"type": "array", "uniqueItems": True, "items": {"$ref": "#/$defs/rule"}},
            },
            "additionalProperties": False,
        },
        "rule": {
            "type": "object",
            "required": ["id", "shortDescription", "helpUri"],
            "properties": {
                "id": {"type": "string"},
                "shortDescription": TEXT,
                "help": TEXT,
                "helpUri": {"type": "string", "pattern": "^[a-z]+:///?[^ ]+$"},
            },
            "additionalProperties": False,
        },
        "result": {
            "type": "object",
            "required": ["ruleId", "level", "message", "locations"],
            "properties": {
                "ruleId": {"type": "string"},
                "ruleIndex": {"type": "integer", "minimum": 0},
                "level": {"enum": ["none", "note", "warning", "error"]},
                "message": TEXT,
                "locations": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/location"}},
            },
            "additionalProperties": False,
        },
        "location": {
            "type": "object",
            "required": ["physicalLocation"],
            "properties": {
                "physicalLocation": {
                    "type": "object",
                    "properties": {
                        "artifactLocation": ARTIFACT,
                        "region": {"type": "object", "properties": {"startLine": {"type": "integer", "minimum": 1}}},
                    },
                    "additionalProperties": False,
                }
            },
            "additionalProperties": False,
        },
    },
}


def check_sarif(log: dict[str, Any]) -> dict[str, Any]:
    """Check a log, and that its rules and results agree; return its run."""
    jsonschema.Draft202012Validator(SARIF).validate(log)
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert {result["ruleId"] for result in run["results"]} == {rule["id"] for rule in rules}
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    return dict(run)


def run_pipeline(folder: Path, database: str, *options: str) -> tuple[int, dict[str, Any]]:
    done = run_here("doctor", "--format", "sarif", *options, cwd=folder, DATABASE_URL=database)
    return done.returncode, check_sarif(json.loads(done.stdout))


async def test_a_migration_that_breaks_user_deletion_fails_the_pipeline(
    database: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    """The run needs no secret of Clerk, and a copy that received no webhook for long is no problem."""
    await db.execute("update clerk_sync.migrations set applied_at = now() - interval '30 days'")
    assert run_pipeline(tmp_path, database, "--fail-on", "warning")[0] == 0
    await db.execute("create table orders (id int primary key, user_id text not null references users)")
    assert run_pipeline(tmp_path, database, "--fail-on", "error")[0] == 0
    status, found = run_pipeline(tmp_path, database, "--fail-on", "warning")
    (broken,) = [result for result in found["results"] if result["level"] == "warning"]
    assert (status, broken["ruleId"]) == (1, "deletion_forbidden")
    assert "orders" in broken["message"]["text"]
    assert found["tool"]["driver"]["rules"][broken["ruleIndex"]]["helpUri"].endswith("/doctor.md#foreign-keys")


def test_without_a_lowest_kind_the_signing_secret_is_required(tmp_path: Path, database: str) -> None:
    status, found = run_pipeline(tmp_path, database)
    assert status == 2
    assert "CLERK_WEBHOOK_SIGNING_SECRET" in found["results"][0]["message"]["text"]


def test_every_code_has_a_rule_and_every_kind_a_level() -> None:
    rules = read_rules(read_page("doctor"))
    findings = [
        Finding(code=code, kind=KINDS[n % 3], what="x", why="y", run=("select 1",), do=("z",))
        for n, code in enumerate(rules)
    ]
    uri = get_page_uri("doctor")
    found = check_sarif(build_sarif(findings, rules, version="1", page_uri=uri, mapping_file="sync.toml"))
    assert Path(url2pathname(urlsplit(uri).path)).read_text() == read_page("doctor")
    assert len(found["results"]) == len(rules) > 70
    assert {result["level"] for result in found["results"]} == set(LEVELS.values())
    for rule in rules.values():
        assert rule.meaning


def test_the_workflow_of_the_page_runs_existing_commands() -> None:
    (example,) = re.findall(r"^```yaml\n(.*?)^```", read_page("doctor"), re.MULTILINE | re.DOTALL)
    workflow = yaml.safe_load(example)
    job = workflow["jobs"]["doctor"]
    assert set(job["env"]) <= set(iter_setting_names())
    commands = [shlex.split(step["run"].partition(" > ")[0]) for step in job["steps"] if "run" in step]
    ours = [arguments for program, *arguments in commands if program == "sync-service"]
    assert [arguments[0] for arguments in ours] == ["migrate", "doctor"]
    for arguments in ours:
        cli.create_parser().parse_args(arguments)
    upload = job["steps"][-1]
    assert upload["if"] == "always()"
    assert upload["with"]["sarif_file"] == "doctor.sarif"
    assert workflow["permissions"]["security-events"] == "write"
