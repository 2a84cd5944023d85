"""The map in `sync_service/__init__.py`: it names every module, and imports follow its order."""

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

import sync_service
from sync_service import settings
from sync_service.errors import SettingsError

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "sync_service"
DOCSTRING = sync_service.__doc__ or ""
MAP = re.findall(r"^    (\w+(?:\.\w+)*) +\S", DOCSTRING, re.MULTILINE)
FOLDERS = re.search(r"Folders, from the bottom: ([\w, ]+)\.", DOCSTRING)

# A module whose docstring says "(pure)" is a function of its arguments.
PURE = re.compile(r'"""(?:(?!""").)*\(pure', re.DOTALL)
IMPURE_IMPORTS = re.compile(r"^ *(?:import|from) (?:asyncpg|asyncio|time|os|socket)\b", re.MULTILINE)

# Statements belong to these folders only.
SQL_FOLDERS = ("postgres", "mapping", "suggest", "store", "doctor")


def list_modules() -> set[str]:
    """Return the modules that contain code; a package's `__init__` only if it has more than its docstring."""
    modules = set()
    for file in PACKAGE.rglob("*.py"):
        name = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        if name.endswith("__init__"):
            has_code = len(ast.parse(file.read_text()).body) > 1
            name = name.removesuffix("__init__").rstrip(".")
            if not (name and (has_code or name in MAP)):
                continue
        modules.add(name)
    return modules


def read_source(module: str) -> str:
    file = PACKAGE.joinpath(*module.split("."))
    return (file / "__init__.py" if file.is_dir() else file.with_suffix(".py")).read_text()


@cache
def list_nodes(module: str) -> list[ast.AST]:
    """Return all nodes of a module's syntax tree."""
    return list(ast.walk(ast.parse(read_source(module))))


def list_imports(module: str) -> set[str]:
    """Return the modules of the package that a module imports, at its top or inside a function."""
    found = set()
    for node in list_nodes(module):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "sync_service":
            base = node.module.removeprefix("sync_service").lstrip(".")
            names = [f"{base}.{alias.name}".lstrip(".") for alias in node.names]
            found |= {name if name in MAP else base for name in names}
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("sync_service.") for a in node.names if a.name.startswith("sync_service.")}
    return found - {""}


def test_the_map_names_every_module_and_no_other() -> None:
    assert sorted(MAP) == sorted(list_modules())


def test_a_module_imports_only_modules_above_it_in_the_map() -> None:
    below = {module: list_imports(module) - set(MAP[:position]) for position, module in enumerate(MAP)}
    assert {module: imported for module, imported in below.items() if imported} == {}


def test_no_import_points_from_a_lower_folder_to_a_higher_one() -> None:
    assert FOLDERS
    order = FOLDERS[1].split(", ")
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert set(order) == folders
    upward = []
    for module in MAP:
        folder = module.split(".")[0]
        for imported in list_imports(module):
            other = imported.split(".")[0]
            if folder in order and other in order and order.index(other) > order.index(folder):
                upward.append(f"{module} imports {imported}")
    assert not upward


def test_a_pure_module_uses_no_database_no_event_loop_and_no_clock() -> None:
    sources = {module: read_source(module) for module in MAP}
    pure = {module: source for module, source in sources.items() if PURE.match(source)}
    assert len(pure) >= 30
    impure = [name for name, source in pure.items() if IMPURE_IMPORTS.search(source) or "datetime.now(" in source]
    assert impure == []


def test_statements_are_only_in_the_folders_for_sql() -> None:
    statement = re.compile(
        r"\b(select|insert into|update|delete from)\b[^\"]*\b(from|values|set|where)\b", re.IGNORECASE
    )
    for module in MAP:
        if module.split(".")[0] not in SQL_FOLDERS:
            for node in list_nodes(module):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value:
                    assert not statement.search(node.value), f"{module}: {node.value}"


def test_the_example_environment_has_every_setting_and_nothing_that_could_be_a_secret() -> None:
    lines = (ROOT / "deploy" / ".env.example").read_text().splitlines()
    given = dict(line.lstrip("# ").split("=", 1) for line in lines if re.match(r"#? ?[A-Z_]+=", line))
    assert set(given) == set(settings.iter_setting_names())
    with pytest.raises(SettingsError):  # it must be filled in before anything starts
        settings.read_settings(
            {name: value for name, value in given.items() if value},
            required=("DATABASE_URL", "CLERK_WEBHOOK_SIGNING_SECRET"),
        )


def test_the_changelog_and_the_package_agree_on_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    newest = re.search(r"^## (?:\[Unreleased\]\s+## )?\[?([0-9.]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == version
