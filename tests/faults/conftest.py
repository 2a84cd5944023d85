"""Fixtures of the fault tests: a durable server, a fault run, and the table of figures at the end."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.engine import Engine, run_engine
from tests.faults.fault_run import FaultRun, Figures, run_service_under_fault
from tests.processes import run_command

FIGURES = pytest.StashKey[list[Figures]]()
GAPS = pytest.StashKey[list[str]]()

RunUnderFault = Callable[..., contextlib.AbstractAsyncContextManager[FaultRun]]


def prepare(engine: Engine, folder: Path) -> None:
    """Create the template database of all fault runs."""

    async def create() -> None:
        async with engine.connect("postgres") as admin:
            await admin.execute("create database template_migrated")

    asyncio.run(create())
    assert run_command("migrate", cwd=folder, DATABASE_URL=engine.dsn("template_migrated")).returncode == 0


@pytest.fixture(scope="session")
def shared_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A migrated server for all fault tests."""
    folder = tmp_path_factory.mktemp("faults")
    with run_engine(folder / "data") as engine:
        prepare(engine, folder)
        yield engine


@pytest.fixture
def durable(shared_engine: Engine) -> Iterator[Engine]:
    """The server; it is running again after each test."""
    yield shared_engine
    shared_engine.thaw()
    if not shared_engine.is_running():
        shared_engine.stop()
        shared_engine.start()


@pytest.fixture
def run_under_fault(durable: Engine, tmp_path: Path, request: pytest.FixtureRequest) -> RunUnderFault:
    """Return a function that runs the service under a fault and adds its figures to the table."""

    def begin(
        fault: str | None, *, engine: Engine = durable, **options: object
    ) -> contextlib.AbstractAsyncContextManager[FaultRun]:
        figures = Figures(fault or "")
        if fault:
            request.config.stash.setdefault(FIGURES, []).append(figures)
        return run_service_under_fault(engine, tmp_path, figures, **options)  # type: ignore[arg-type]  # a run's own options

    return begin


@pytest.fixture
def note_gap(request: pytest.FixtureRequest) -> Callable[[str, float], None]:
    """Return a function that adds a write gap to the figures."""

    def note(failover: str, seconds: float) -> None:
        line = f"{failover}: no commit for {seconds:.2f} s"
        print(line)
        request.config.stash.setdefault(GAPS, []).append(line)

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the figures that show that no message is lost. With `-n`, only workers have them, and print nothing."""
    lines: dict[str, Figures] = {}
    for part in config.stash.get(FIGURES, []):
        line = lines.setdefault(part.fault, Figures(part.fault))
        for name in COLUMNS[1:]:
            setattr(line, name, getattr(line, name) + getattr(part, name))
    if not lines:
        return
    total = Figures("all", **{name: sum(getattr(line, name) for line in lines.values()) for name in COLUMNS[1:]})
    terminalreporter.section("faults")
    terminalreporter.write_line(f"{'fault':40}" + "".join(f"{name:>14}" for name in COLUMNS[1:]))
    for line in (*lines.values(), total):
        terminalreporter.write_line(f"{line.fault:40}" + "".join(f"{getattr(line, n):>14}" for n in COLUMNS[1:]))
    for gap in config.stash.get(GAPS, []):
        terminalreporter.write_line(gap)


COLUMNS = ("fault", "injected", "sent", "acknowledged", "attempts", "lost")
