"""README and the documentation pages: their links, and their tables against the code."""

import argparse
import dataclasses
import os
import pty
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_service import settings
from sync_service.cli import COMMANDS
from sync_service.documentation import list_pages
from tests.processes import COMMAND, run_here

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
FOLDER = ROOT / "sync_service" / "docs"
PAGES = sorted(FOLDER.glob("*.md"))
DOCUMENTS = [README, ROOT / "CHANGELOG.md", *PAGES]

MAX_README_LINES = 190

PAGE_NAMES = [
    "carry-over",
    "changes",
    "deploy",
    "doctor",
    "http",
    "login",
    "mapping",
    "operations",
    "scaling",
    "sessions",
]


def page(name: str) -> str:
    """Return the text of a page."""
    return (FOLDER / f"{name}.md").read_text()


def without_code(text: str) -> str:
    """Return Markdown without its code blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def code_blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def first_cells(text: str) -> list[str]:
    """Return the first cell of each table row, without the head of the table."""
    rows = re.findall(r"^\| (.*?) \|.*\n(?!\| ---)", without_code(text), re.MULTILINE)
    return [row for row in rows if row != "---"]


def anchors(document: Path) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_code(document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(document: Path) -> Iterator[tuple[Path, str]]:
    """Yield the file and the anchor of each relative link."""
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(document.read_text())):
        if not re.match(r"[a-z]+:", target):
            name, _, anchor = target.partition("#")
            yield (document.parent / name if name else document).resolve(), anchor


def leaf_commands() -> dict[str, set[str]]:
    """Return the options of each command that does something, such as `events list`."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    for command in COMMANDS:
        command.add_parser(commands)
    found: dict[str, set[str]] = {}

    def visit(name: str, parser: argparse.ArgumentParser) -> None:
        children: dict[str, argparse.ArgumentParser] = {}
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                children |= action.choices
        for child, its_parser in children.items():
            visit(f"{name} {child}".strip(), its_parser)
        if not children:
            found[name] = {option for option in parser._option_string_actions if option.startswith("--")} - {"--help"}

    visit("", parser)
    return found


# --- README -------------------------------------------------------------------------------------------------------


def test_the_readme_stays_short() -> None:
    assert len(README.read_text().splitlines()) <= MAX_README_LINES


def test_the_readme_links_every_page() -> None:
    assert {target for target, _ in links(README) if target.parent == FOLDER and target.suffix == ".md"} == set(PAGES)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_relative_link_and_anchor_resolves(document: Path) -> None:
    for target, anchor in links(document):
        assert target.exists(), target
        assert not anchor or anchor in anchors(target), f"{target.name}#{anchor}"


@pytest.mark.parametrize("document", PAGES, ids=lambda path: path.name)
def test_a_page_links_only_to_pages_because_an_installed_package_has_no_other_files(document: Path) -> None:
    assert {target.parent for target, _ in links(document)} <= {FOLDER}


def test_every_make_target_of_the_readme_exists() -> None:
    named = set(re.findall(r"(?:`|\$ )make ([a-z]+)", README.read_text()))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"run", "test", "bench"} <= named <= targets


# --- tables -------------------------------------------------------------------------------------------------------


def test_the_settings_tables_have_every_setting_and_no_other() -> None:
    rows = [row for row in first_cells(page("deploy")) if re.fullmatch(r"(?:`[A-Z_]+`(?:, )?)+", row)]
    named = [name for row in rows for name in re.findall(r"`([A-Z_]+)`", row)]
    assert sorted(named) == sorted(settings.iter_setting_names())


def test_the_commands_table_has_every_command_with_its_options_and_no_other() -> None:
    commands = leaf_commands()
    section = page("operations").partition("\n## Commands\n")[2].partition("\n## ")[0]
    rows = first_cells(section.partition("### Exit status")[0])
    described = {}
    for row in rows:
        words = re.sub(r"[`\[\]]", "", row).split()[1:]
        name = " ".join(word for word in words if re.fullmatch(r"[a-z]+(?:-[a-z]+)*", word))
        described[name] = {word for word in words if word.startswith("--")}
    assert described == commands


def test_the_http_page_has_every_error_code() -> None:
    package = ROOT / "sync_service"
    sources = [package / "request_errors.py", package / "operator_errors.py", *(package / "web").rglob("*.py")]
    codes = {code for file in sources for code in re.findall(r'\bcode = "(\w+)"', file.read_text())}
    assert len(codes) > 10
    for code in codes:
        assert f"`{code}`" in page("http"), code


def test_the_doctor_page_has_every_code_and_no_other() -> None:
    source = "".join(file.read_text() for file in (ROOT / "sync_service").rglob("*.py"))
    rows = [row for row in first_cells(page("doctor")) if row.startswith("`")]
    described = {code for row in rows for code in re.findall(r"`(\w+)`", row)}
    in_doctor = "".join(file.read_text() for file in (ROOT / "sync_service" / "doctor").glob("*.py"))
    assert set(re.findall(r'\bcode="(\w+)",', in_doctor)) <= described
    for code in described:
        assert f'"{code}"' in source, code


def test_the_default_table_has_every_column() -> None:
    section = page("mapping").partition("## The default table")[2].partition("\n## ")[0]
    named = {name for row in first_cells(section) for name in re.findall(r"`(\w+)`", row)}
    mapping = settings.Settings().mapping
    assert named == {mapping.id_column, *mapping.columns}


@pytest.mark.parametrize("example", code_blocks(page("mapping"), "toml"))
def test_each_mapping_example_is_a_valid_mapping(tmp_path: Path, example: str) -> None:
    file = tmp_path / "sync.toml"
    file.write_text(example)
    assert settings.read_settings({"SYNC_CONFIG": str(file)}).mapping.columns


def test_the_mapping_example_shows_every_key() -> None:
    example = tomllib.loads(code_blocks(page("mapping"), "toml")[0])
    fields = {field.name for field in dataclasses.fields(settings.Settings().mapping) if field.init}
    others = {"schema", "created_by", "entity", "id_column", "records_changes", "notifies", "carry_over"}
    others |= {"keep", "related", "has_children"}
    assert example["users"].keys() == fields - others | {"clerk_id"}
    assert example["changes"].keys() == {"record"}


# --- the command --------------------------------------------------------------------------------------------------


def test_docs_lists_the_pages_with_one_line_each(tmp_path: Path) -> None:
    done = run_here("docs", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines() if line.startswith("  ")]
    assert [name for name, _ in lines] == list_pages() == PAGE_NAMES
    for _, summary in lines:
        assert len(summary) < 120
        assert summary.endswith(".")


@pytest.mark.parametrize("name", ["login", "login.md", "LOGIN"])
def test_docs_prints_a_page_as_it_is_into_a_pipe(tmp_path: Path, name: str) -> None:
    done = run_here("docs", name, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, page("login"), "")


def test_docs_renders_a_page_on_a_terminal(tmp_path: Path) -> None:
    controller, terminal = pty.openpty()
    try:
        environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
        done = subprocess.Popen([COMMAND, "docs", "doctor"], cwd=tmp_path, env=environ, stdout=terminal)
        os.close(terminal)
        output = b""
        while chunk := _read(controller):
            output += chunk
        assert done.wait(30) == 0
    finally:
        os.close(controller)
    text = output.decode()
    assert "\x1b[" in text
    assert "Doctor and mapping suggest" in text
    assert "## Checks" not in text
    assert "| ---" not in text


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux reports the end of a terminal as an error
        return b""


def test_an_unknown_page_is_status_2_and_the_message_names_the_pages(tmp_path: Path) -> None:
    done = run_here("docs", "mapings", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Did you mean mapping?" in done.stderr
    assert ", ".join(PAGE_NAMES) in done.stderr
