"""The wheel and the source distribution: their files, and the service installed from them without this repository."""

import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests import processes
from tests.processes import COMMAND, run_command, start_command

ROOT = Path(__file__).resolve().parents[1]


def build(folder: Path, into: Path, *targets: str) -> None:
    """Build with the locked hatchling, which needs no network."""
    command = [str(COMMAND.with_name("hatchling")), "build", "-d", str(into), *targets]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    build(ROOT, folder)
    return folder


def list_files(wheel: Path) -> dict[str, bytes]:
    """Return the package's files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name.startswith("sync_service/")}


def test_the_wheel_has_every_file_of_the_package(distributions: Path) -> None:
    """Code, migrations and other SQL, pages and templates: all files that git knows below sync_service/."""
    listed = subprocess.run(["git", "ls-files", "sync_service"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is not a clone")
    [wheel] = distributions.glob("*.whl")
    files = list_files(wheel)
    assert files.keys() >= set(listed.stdout.split())
    for name, content in files.items():
        assert content == (ROOT / name).read_bytes(), name


def test_the_sdist_builds_the_same_wheel_and_has_the_other_files(distributions: Path, tmp_path: Path) -> None:
    [sdist], [wheel] = distributions.glob("*.tar.gz"), distributions.glob("*.whl")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    [folder] = tmp_path.iterdir()
    build(folder, tmp_path, "-t", "wheel")
    [built] = tmp_path.glob("*.whl")
    assert list_files(built) == list_files(wheel)
    others = {path.name for path in folder.iterdir()}
    assert {"LICENSE", "Makefile", "Procfile", "requirements.lock", "requirements-dev.lock", "tests"} <= others


def test_the_installed_wheel_serves_a_webhook(
    distributions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pip install` of the wheel alone; its dependencies come from this environment, so the test needs no network."""
    [wheel] = distributions.glob("*.whl")
    environment = tmp_path / "venv"
    venv.create(environment, symlinks=True)
    python = str(environment / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel)], check=True)
    [packages] = environment.glob("lib/python*/site-packages")
    # Paths in a .pth file are only added to sys.path; the .pth file of the editable installation there is not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    monkeypatch.setattr(processes, "COMMAND", environment / "bin" / "sync-service")
    where = [python, "-P", "-c", "import sync_service; print(sync_service.__file__)"]
    assert subprocess.run(where, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.startswith(
        str(packages)
    )
    with start_command("dev", cwd=tmp_path) as dev:
        dev.wait_for('"event":"ready"')
        sent = run_command("send", "user.created", "--user", "user_1", cwd=tmp_path, PORT=str(dev.port))
        assert (sent.returncode, sent.stderr) == (0, "")
        assert "applied" in sent.stdout
        assert dev.stop() == 0
