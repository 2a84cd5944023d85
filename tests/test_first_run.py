"""The first `make run` in a fresh clone: its lock file, and the repair of a virtual environment that does not work."""

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("requirements.lock", "requirements-dev.lock", "deploy/requirements.lock")


def read_pins(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / name).read_text(), re.MULTILINE))


def read_names(group: list[str]) -> set[str]:
    return {re.split(r"[\[><;]", name)[0].strip() for name in group}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "a clone"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", *LOCKS[:2]):
        shutil.copy(ROOT / name, folder)
    return folder


def make(folder: Path, *arguments: str) -> str:
    """Run make without this run's own virtual environment on PATH; return the output."""
    path = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if ".venv" not in part)
    environ = {key: text for key, text in os.environ.items() if key not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    done = subprocess.run(
        ["make", *arguments], cwd=folder, env=environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", LOCKS)
def test_each_lock_has_hashes_and_no_address(name: str) -> None:
    lock = (ROOT / name).read_text()
    assert "://" not in lock
    for entry in re.split(r"\n(?=\S)", lock.strip()):
        assert "--hash=sha256:" in entry


def test_make_run_installs_no_tool_of_the_developers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    installed = read_names(project["dependencies"]) | read_names(extras["embedded"]) | read_names(extras["editable"])
    pins = read_pins("requirements.lock")
    assert installed <= pins.keys()
    assert not (read_names(extras["dev"]) - installed) & pins.keys()
    assert pins.items() <= read_pins("requirements-dev.lock").items()


def test_each_target_installs_the_lock_that_it_needs(clone: Path) -> None:
    for target, lock in (
        ("run", "requirements.lock"),
        ("test", "requirements-dev.lock"),
        ("check", "requirements-dev.lock"),
    ):
        commands = make(clone, "--dry-run", target)
        assert f"-r {lock}\n" in commands
        assert "--quiet --require-hashes" not in commands  # the download shows its progress


def touch_lock(folder: Path) -> None:
    """Make the lock newer than all that make has written; the clock of files has steps of some milliseconds."""
    time.sleep(0.1)
    (folder / "requirements.lock").touch()


def is_ready(folder: Path) -> bool:
    """Return whether make has no work to do."""
    return not subprocess.run(["make", "--question", ".venv/ready-to-run"], cwd=folder, check=False).returncode


PYTHON_WITHOUT_PIP = f"""#!/bin/sh
case "$*" in
    *venv*) {sys.executable} "$@" --without-pip && cd .venv/lib/python3.*/site-packages && mkdir pip ;;
    *) exec {sys.executable} "$@" ;;
esac
"""


def test_a_broken_or_moved_environment_is_made_again(clone: Path) -> None:
    """The packages are left out here, by a PIP that does no work, and pip's own files, which take 5 s."""
    python = clone.with_name("python")
    python.write_text(PYTHON_WITHOUT_PIP)
    python.chmod(0o700)
    create = ("PIP=:", f"PYTHON='{python}'", ".venv/ready-to-run")
    assert "Creating .venv" in make(clone, *create)
    assert is_ready(clone)
    touch_lock(clone)
    assert "Creating .venv" not in make(clone, *create)  # a newer lock is installed into the same environment

    python = clone / ".venv" / "bin" / "python"
    target = python.readlink()
    python.unlink()
    python.symlink_to("/nowhere/python3.11")  # as after an upgrade of the system
    assert not is_ready(clone)
    python.unlink()
    python.symlink_to(target)
    assert is_ready(clone)

    [pip] = (clone / ".venv").glob("lib/python*/site-packages/pip")
    pip.rmdir()  # as after an interrupted `python -m venv`
    touch_lock(clone)
    assert "Creating .venv" in make(clone, *create)

    touch_lock(clone)
    with pytest.raises(AssertionError):
        make(clone, "PIP=false", ".venv/ready-to-run")  # an installation that fails or is interrupted
    assert not is_ready(clone)

    clone = clone.rename(clone.with_name("moved"))
    assert not is_ready(clone)
    assert "Creating .venv" in make(clone, *create)
    assert str(clone) in (clone / ".venv" / "pyvenv.cfg").read_text()
    assert is_ready(clone)
