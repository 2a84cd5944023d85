"""The map in `sync_service/__init__.py` is true, and so is what else is said about the project in its own files."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

import sync_service
from sync_service import settings

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "sync_service"
ENTRY = re.compile(r"^    (\w+(?:\.\w+)*)  +\S", re.MULTILINE)
MAP = ENTRY.findall(sync_service.__doc__ or "")


def rooms() -> set[str]:
    """Return the modules that hold code; a package's `__init__` only if it holds more than its docstring."""
    found = set()
    for file in PACKAGE.rglob("*.py"):
        name = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        if name.endswith("__init__"):
            holds_code = len(ast.parse(file.read_text()).body) > 1
            name = name.removesuffix("__init__").rstrip(".")
            if not (name and (holds_code or name in MAP)):
                continue
        found.add(name)
    return found


def imports(room: str) -> set[str]:
    """Return the rooms that a room imports, wherever in it."""
    file = PACKAGE.joinpath(*room.split("."))
    source = (file / "__init__.py" if file.is_dir() else file.with_suffix(".py")).read_text()
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "sync_service":
            base = node.module.removeprefix("sync_service").lstrip(".")
            names = [f"{base}.{alias.name}".lstrip(".") for alias in node.names]
            found |= {name if name in MAP else base for name in names}
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("sync_service.") for a in node.names if a.name.startswith("sync_service.")}
    return found - {""}


def test_the_map_names_every_room_and_no_other() -> None:
    assert sorted(MAP) == sorted(rooms())


@pytest.mark.parametrize("room", MAP)
def test_a_room_imports_only_from_rooms_above_it_in_the_map(room: str) -> None:
    assert imports(room) <= set(MAP[: MAP.index(room)])


@pytest.mark.parametrize(
    "room",
    [
        *("clerk.values", "clerk.events", "clerk.breaker", "mapping.file", "mapping.suggest", "postgres.fit"),
        *("postgres.cures", "doctor.table", "doctor.columns", "doctor.graph", "doctor.references", "doctor.loose"),
        *("doctor.inbox", "sync.decide", "dsn", "errors", "spellings"),
    ],
)
def test_a_pure_room_knows_no_database_no_event_loop_and_no_clock(room: str) -> None:
    source = PACKAGE.joinpath(*room.split(".")).with_suffix(".py").read_text()
    assert not re.search(r"^(?:import|from) (?:asyncpg|asyncio|time|os|socket)\b", source, re.MULTILINE)
    assert "now(" not in source


def test_sql_is_in_one_place() -> None:
    statement = re.compile(
        r"\b(select|insert into|update|delete from)\b[^\"]*\b(from|values|set|where)\b", re.IGNORECASE
    )
    for room in MAP:
        if not room.startswith("postgres"):
            file = PACKAGE.joinpath(*room.split("."))
            tree = ast.parse((file / "__init__.py" if file.is_dir() else file.with_suffix(".py")).read_text())
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value:
                    assert not statement.search(node.value), f"{room}: {node.value}"


def test_the_example_environment_has_every_setting_and_nothing_that_could_be_a_secret() -> None:
    lines = (ROOT / "deploy" / ".env.example").read_text().splitlines()
    given = dict(line.lstrip("# ").split("=", 1) for line in lines if re.match(r"#? ?[A-Z_]+=", line))
    assert set(given) == set(settings.names())
    with pytest.raises(sync_service.errors.SettingsError):  # it must be filled in before anything starts
        settings.read_settings(
            {name: value for name, value in given.items() if value},
            required=("DATABASE_URL", "CLERK_WEBHOOK_SIGNING_SECRET"),
        )


def test_the_changelog_and_the_package_agree_on_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    newest = re.search(r"^## (?:\[Unreleased\]\s+## )?\[?([0-9.]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == version


def test_the_lock_has_hashes_and_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    for entry in re.split(r"\n(?=\S)", lock.strip()):
        assert "--hash=sha256:" in entry
