"""Runs the procedure of the shared applications: suggestion, migration, doctor, a user's life, and again after fixes.

`python -m tests.apps.runner [APP …]` prints a table of the failed checks; `--toml` prints each suggestion,
`--findings` the doctor's findings, and `--folder` names another folder of applications.
"""

import argparse
import asyncio
import contextlib
import io
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from sync_service import cli
from sync_service.dev.embedded import EmbeddedServer, run_embedded_postgres
from sync_service.logs import configure_logging
from sync_service.settings import Settings, read_settings
from tests.apps.owned_app import SHARED_APPS, OwnedApp, load_apps
from tests.apps.owner_checks import Failure
from tests.apps.owner_life import OwnerLife
from tests.world import SECRET, run_world

# The phases: before any SQL of the doctor; after it; after it, with a new suggestion.
PHASES = ("untouched", "cured", "suggested again")


@dataclass
class Run:
    """One application in one phase: the files and answers of the commands, and the failed checks."""

    app: OwnedApp
    phase: str
    environ: dict[str, str] = field(default_factory=dict)
    toml: str = ""
    findings: list[dict[str, Any]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def require(self, condition: object, check: str, detail: object = "") -> None:
        if not condition:
            self.failures.append(Failure(check, str(detail)))

    def call(self, *arguments: str) -> tuple[int, str, str]:
        """Run one command of the service; return its status and what it printed."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = cli.run(arguments, self.environ)
        return status, out.getvalue(), err.getvalue()

    def suggest(self) -> None:
        """Write the unedited suggestion to sync.toml."""
        status, self.toml, said = self.call("mapping", "suggest")
        Path(self.environ["SYNC_CONFIG"]).write_text(self.toml)
        self.require(status == 0, "mapping suggest", f"status {status}: {said}")

    def migrate(self) -> None:
        status, _, said = self.call("migrate")
        self.require(status == 0, "migrate", f"status {status}: {said}")

    def check_doctor(self, *, is_healthy: bool, must: bool) -> None:
        """Run the doctor and check its findings."""
        status, printed, said = self.call("doctor", "--json")
        if not printed:
            self.failures.append(Failure("doctor", f"status {status}: {said}"))
            return
        self.findings = json.loads(printed)["findings"]
        for found in self.findings:
            self.require(found["kind"] != "wrong" or not is_healthy, "doctor: wrong", _summarize(found))
        expected = self.app.expect["doctor"]
        for wanted in expected["must"] if must else ():
            kinds = {"wrong"} | ({"warning"} if wanted["kind"] != "wrong" else set())
            matches = [found for found in self.findings if found["kind"] in kinds and _mentions(found, wanted["about"])]
            self.require(matches, "doctor: must", f"no {wanted['kind']} about {wanted['about']}")
        for unwanted in expected["must_not"]:
            for found in self.findings:
                is_alarm = found["kind"] != "note" and _mentions(found, unwanted["about"], re.DOTALL | re.IGNORECASE)
                self.require(not is_alarm, "doctor: must_not", f"{unwanted['about']}: {_summarize(found)}")

    def list_fixes(self) -> list[str]:
        """Return the SQL statements of all findings that are wrong or a warning."""
        chosen = [found for found in self.findings if found["kind"] in {"wrong", "warning"}]
        return [statement for found in chosen for statement in found["run"] if not statement.startswith("sync-service")]


def _mentions(finding: dict[str, Any], about: str, flags: int = 0) -> bool:
    text = "\n".join([finding["what"], finding["why"], *finding["lines"], *finding["do"], *finding["run"]])
    return re.search(about, text, flags) is not None


def _summarize(finding: dict[str, Any]) -> str:
    return f"{finding['kind']} [{finding['code']}] {finding['what']}"


def run_app(server: EmbeddedServer, app: OwnedApp, phase: str) -> Run:
    """Run the procedure in a database of its own."""
    run = Run(app, phase)
    with tempfile.TemporaryDirectory() as folder, _create_database(server, app, phase) as database:
        dsn = server.dsn(database)
        run.environ = {
            "DATABASE_URL": _use_role(dsn, app.expect.get("role")),
            "CLERK_WEBHOOK_SIGNING_SECRET": SECRET,
            "SYNC_CONFIG": f"{folder}/sync.toml",
        }
        run.suggest()
        run.migrate()
        is_healthy = app.expect["zero_touch"]
        run.check_doctor(is_healthy=is_healthy, must=True)
        if phase != "untouched":
            asyncio.run(_execute(dsn, run))
            if phase == "suggested again":
                run.suggest()
            run.check_doctor(is_healthy=True, must=False)
        _serve(run, dsn)
    return run


def _serve(run: Run, dsn: str) -> None:
    try:
        settings = read_settings(run.environ)
        works = run.phase != "untouched" or run.app.expect["zero_touch"]
        asyncio.run(_live(run, settings, dsn) if works else _do_no_harm(run, settings, dsn))
    except Exception as error:  # noqa: BLE001  the table shows it, and the next application runs
        run.failures.append(Failure("serve", f"{type(error).__name__}: {error}"))


async def _live(run: Run, settings: Settings, dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    async with run_world(settings, connection) as world:
        life = OwnerLife(run.app, world, cured=run.phase != "untouched", failures=run.failures)
        await life.run()
    await connection.close()


async def _do_no_harm(run: Run, settings: Settings, dsn: str) -> None:
    """Before the fixes the events may wait; the rows of the application stay as they are."""
    connection = await asyncpg.connect(dsn)
    async with run_world(settings, connection) as world:
        life = OwnerLife(run.app, world, cured=False, failures=run.failures)
        await life.offer_events()
    await connection.close()


async def _execute(dsn: str, run: Run) -> None:
    connection = await asyncpg.connect(dsn)
    for statement in run.list_fixes():
        try:
            await connection.execute(statement)
        except asyncpg.PostgresError as error:
            run.failures.append(Failure("doctor's SQL", f"{statement}: {error}"))
    await connection.close()


@contextlib.contextmanager
def _create_database(server: EmbeddedServer, app: OwnedApp, phase: str) -> Iterator[str]:
    name = f"app_{app.name}_{PHASES.index(phase)}"

    async def administer(*statements: str) -> None:
        connection = await asyncpg.connect(server.dsn())
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    async def fill_database() -> None:
        connection = await asyncpg.connect(server.dsn(name))
        await connection.execute(app.schema_sql)
        await connection.execute(app.rows_sql)
        await connection.close()

    asyncio.run(administer(f"create database {name} template template0 strategy file_copy"))
    asyncio.run(fill_database())
    yield name
    asyncio.run(administer(f"drop database {name} with (force)"))


def _use_role(dsn: str, role: str | None) -> str:
    return dsn.replace(f"//{urlsplit(dsn).username}@", f"//{role}@") if role else dsn


def format_failures(run: Run) -> str:
    """Return the failed checks of one run as lines of a table."""
    if not run.failures:
        return f"{run.app.name:10} {run.phase:16} ok"
    return "\n".join(f"{run.app.name:10} {run.phase:16} {each.check}: {each.detail}" for each in run.failures)


def main() -> int:
    """Run the applications and print the table."""
    parser = argparse.ArgumentParser(description="Run the applications of ../shared/apps.")
    parser.add_argument("apps", nargs="*", metavar="APP")
    parser.add_argument("--phase", choices=PHASES, action="append")
    parser.add_argument("--folder", type=Path, default=SHARED_APPS)
    parser.add_argument("--toml", action="store_true", help="print each suggestion")
    parser.add_argument("--findings", action="store_true", help="print the doctor's findings")
    given = parser.parse_args()
    configure_logging(level="error", form="console", stream=sys.stderr)
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    quick = {"fsync": "off", "synchronous_commit": "off"}
    apps = [app for app in load_apps(given.folder) if not given.apps or app.name in given.apps]
    with (
        tempfile.TemporaryDirectory(dir=memory) as folder,
        run_embedded_postgres(Path(folder, "data"), settings=quick) as server,
    ):
        runs = [run_app(server, app, phase) for app in apps for phase in given.phase or PHASES]
    for run in runs:
        print(format_failures(run))
        if given.toml:
            print(run.toml)
        if given.findings:
            print(*(json.dumps(found, indent=1) for found in run.findings if found["kind"] != "note"), sep="\n")
    return 1 if any(run.failures for run in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
