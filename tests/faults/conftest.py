"""What the faults share: a durable server that bears them, a siege, and the table of figures at the end."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.engine import Engine, engine_on
from tests.faults.siege import Figures, Siege, besieged
from tests.processes import run_command

FIGURES = pytest.StashKey[list[Figures]]()

Besiege = Callable[..., contextlib.AbstractAsyncContextManager[Siege]]


def prepare(engine: Engine, folder: Path) -> None:
    """Make the database that every siege's is a copy of."""

    async def create() -> None:
        async with engine.connected("postgres") as admin:
            await admin.execute("create database template_migrated")

    asyncio.run(create())
    assert run_command("migrate", cwd=folder, DATABASE_URL=engine.dsn("template_migrated")).returncode == 0


@pytest.fixture(scope="session")
def fortress(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A server for all faults, migrated."""
    folder = tmp_path_factory.mktemp("faults")
    with engine_on(folder / "data") as engine:
        prepare(engine, folder)
        yield engine


@pytest.fixture
def durable(fortress: Engine) -> Iterator[Engine]:
    """The server; whatever a test did to it, the next one finds it running."""
    yield fortress
    fortress.thaw()
    if not fortress.alive():
        fortress.stop()
        fortress.start()


@pytest.fixture
def besiege(durable: Engine, tmp_path: Path, request: pytest.FixtureRequest) -> Besiege:
    """Return a function that lays siege to the service; the figures go into the table."""

    def begin(
        fault: str | None, *, engine: Engine = durable, **options: object
    ) -> contextlib.AbstractAsyncContextManager[Siege]:
        figures = Figures(fault or "")
        if fault:
            request.config.stash.setdefault(FIGURES, []).append(figures)
        return besieged(engine, tmp_path, figures, **options)  # type: ignore[arg-type]  # a siege's own options

    return begin


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table of figures. Workers of `-n` have none to print here, so it belongs to `make faults`."""
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


COLUMNS = ("fault", "injected", "sent", "acknowledged", "attempts", "lost")
