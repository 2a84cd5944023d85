"""deploy/ and the files at the top of the repository, as far as they can be checked without Docker."""

import asyncio
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sync_service.cli import COMMANDS
from sync_service.dev.embedded import EmbeddedServer, run_embedded_postgres
from sync_service.mapping.presets import DEFAULT
from sync_service.settings import iter_setting_names, read_settings
from sync_service.web.app import STOP_TIMEOUT
from sync_service.web.connections import MAX_CONNECTIONS, RESERVED_DESCRIPTORS
from tests.processes import reserve_port, run_command, run_here

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"

# Docker copies a file that this pattern matches, and needs none.
OPTIONAL_FILE = "sync.tom[l]"

# A tag for people, and the digest that decides.
PINNED_IMAGE = r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}"


def test_the_image_is_slim_not_root_and_has_a_health_check() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().replace("\\\n", "").splitlines()
    steps = [line.partition(" ")[::2] for line in lines if line and not line.startswith("#")]
    last_stage = steps[max(n for n, (word, _) in enumerate(steps) if word == "FROM") :]
    words = dict(last_stage)
    bases = {rest.split()[0] for word, rest in steps if word == "FROM"}
    assert all(re.fullmatch(PINNED_IMAGE, base) for base in bases)
    assert len(bases) == 1
    assert "-slim" in words["FROM"]
    assert words["USER"] == "10001:10001"
    assert "--uid 10001" in words["RUN"]
    assert "/healthz" in words["HEALTHCHECK"]
    assert words["CMD"] == '["sync-service", "serve"]'
    for word, rest in steps:
        if word == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert source == OPTIONAL_FILE or (ROOT / source).exists(), source


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

    image, everything = read_pins(DEPLOY / "requirements.lock"), read_pins(ROOT / "requirements-dev.lock")
    assert image.items() <= everything.items()
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.split(r"[\[><;]", name)[0].strip() for name in wanted} <= set(image)
    assert "embedded-postgres" not in image
    assert "://" not in (DEPLOY / "requirements.lock").read_text()


def test_the_image_keeps_no_build_tool() -> None:
    """The packages that only the build needs are the locked ones that no package of the service requires."""
    removed = re.search(r"uninstall --yes (.*)", (DEPLOY / "Dockerfile").read_text())
    assert removed
    locked = set(re.findall(r"^([\w.-]+)==", (DEPLOY / "requirements.lock").read_text(), re.MULTILINE))
    needed = list_requirements("sync-service")
    only_elsewhere = {name for name in locked if not is_installed(name)}
    assert set(removed[1].split()) == locked - needed - only_elsewhere


def list_requirements(name: str) -> set[str]:
    """Return the packages that an installed package requires here, to any depth, by their normalized names."""
    found: set[str] = set()
    waiting = [(name, {""})]
    while waiting:
        package, extras = waiting.pop()
        for requirement in map(Requirement, metadata.requires(package) or ()):
            marker = requirement.marker
            if marker and not any(marker.evaluate({"extra": extra}) for extra in extras):
                continue
            required = canonicalize_name(requirement.name)
            if required not in found or requirement.extras:
                found.add(required)
                waiting.append((required, {"", *requirement.extras}))
    return found


def is_installed(name: str) -> bool:
    """Return whether a locked package is needed on this platform."""
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def read_compose() -> dict[str, Any]:
    compose: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return compose


def test_compose_migrates_before_it_serves_and_holds_no_secret() -> None:
    compose = read_compose()
    web, migrate = compose["services"]["web"], compose["services"]["migrate"]
    assert web["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert migrate["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert (DEPLOY / web["build"]["context"] / web["build"]["dockerfile"]).exists()
    assert web["environment"]["CLERK_WEBHOOK_SIGNING_SECRET"].startswith("${")
    assert int(web["stop_grace_period"].rstrip("s")) > STOP_TIMEOUT
    assert re.fullmatch(PINNED_IMAGE, compose["services"]["postgres"]["image"])
    for service in (web, migrate):
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]


def test_compose_passes_every_setting_and_mounts_the_mapping() -> None:
    """HOST and PORT belong to the container. conda sets HOST to another value in a shell."""
    compose = read_compose()
    for service in (compose["services"]["web"], compose["services"]["migrate"]):
        environment = service["environment"]
        assert set(environment) - {"PGPASSWORD"} == set(iter_setting_names()) - {"HOST", "PORT"}
        fixed = {"DATABASE_URL", "PGPASSWORD", "CLERK_WEBHOOK_SIGNING_SECRET", "SYNC_CONFIG"}
        for name in environment.keys() - fixed:
            assert environment[name] == f"${{{name}:-}}"
        [mount] = service["volumes"]
        assert mount["target"] == environment["SYNC_CONFIG"]
        assert mount["source"] == "${SYNC_CONFIG:-./sync.toml}"
    assert read_settings({"SYNC_CONFIG": str(DEPLOY / "sync.toml")}).mapping == DEFAULT


async def test_compose_accepts_every_password(tmp_path: Path, small_server: EmbeddedServer) -> None:
    password = "p@ss/w:rd?#%[$"
    [port] = re.findall(r"PGSQL\.(\d+)$", "\n".join(map(str, small_server.socket.iterdir())), re.MULTILINE)
    connection = await asyncpg.connect(small_server.dsn(), port=int(port))
    await connection.execute("create role app superuser login password 'p@ss/w:rd?#%[$'")
    await connection.execute("create database app")
    rules = Path(await connection.fetchval("show hba_file"))
    await asyncio.to_thread(rules.write_text, "host all all 127.0.0.1/32 scram-sha-256\n")
    await connection.execute("select pg_reload_conf()")
    await connection.close()
    environment = read_compose()["services"]["migrate"]["environment"]
    assert environment["PGPASSWORD"].startswith("${POSTGRES_PASSWORD:")
    address = environment["DATABASE_URL"].replace("postgres:5432", f"127.0.0.1:{port}")
    done = run_command("migrate", cwd=tmp_path, DATABASE_URL=address, PGPASSWORD=password)
    assert done.returncode == 0, done.stderr
    assert run_command("migrate", cwd=tmp_path, DATABASE_URL=address, PGPASSWORD="another").returncode == 1


@pytest.fixture
def small_server(tmp_path: Path, anyio_backend_name: str) -> Iterator[EmbeddedServer]:
    """A server that also listens on a port. It starts before the event loop."""
    listen = {"listen_addresses": "127.0.0.1", "port": str(reserve_port())}
    with run_embedded_postgres(tmp_path / "postgres", settings=listen) as server:
        yield server


def test_the_image_s_context_has_the_needed_files_only() -> None:
    """`*` leaves all files out; an entry with `!` brings one back, as Docker's documentation states."""
    entries = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [entry for entry in entries if entry and not entry.startswith("#")]
    assert rules[0] == "*"
    steps = re.findall(r"^COPY (?!--from)(.*) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    copied = {name for step in steps for name in step.split()} - {OPTIONAL_FILE} | {"sync.toml"}
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied


def test_the_systemd_unit_allows_many_connections() -> None:
    unit = (ROOT / "deploy" / "sync-service.service").read_text()
    [limit] = re.findall(r"^LimitNOFILE=([0-9]+)$", unit, re.MULTILINE)
    assert int(limit) > MAX_CONNECTIONS + RESERVED_DESCRIPTORS


def test_the_systemd_unit_is_valid() -> None:
    unit = (DEPLOY / "sync-service.service").read_text()
    keys = re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE)
    given = dict(keys)
    assert given["ExecStart"].endswith("sync-service serve")
    assert given["DynamicUser"] == "yes"
    assert int(given["TimeoutStopSec"]) > STOP_TIMEOUT
    assert int(given["LimitNOFILE"]) >= 65536
    if analyze := shutil.which("systemd-analyze"):
        done = subprocess.run(
            [analyze, "verify", DEPLOY / "sync-service.service"], capture_output=True, text=True, check=False
        )
        assert not re.search(r"Unknown|Invalid|Failed to parse", done.stderr)


def test_the_systemd_unit_is_hardened() -> None:
    """The rating of the exposure is between 0 and 10. Most of the rest is the network, which the service needs."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    command = [analyze, "security", "--offline=true", str(DEPLOY / "sync-service.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rating = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert rating, done.stderr
    assert float(rating[1]) < 2  # versions of systemd rate a little differently


def test_the_systemd_unit_starts_while_the_database_is_down() -> None:
    """A failed migration stops no start, the attempts do not end, and wrong settings are not tried again."""
    given = dict(re.findall(r"^(\w+)=(.*)$", (DEPLOY / "sync-service.service").read_text(), re.MULTILINE))
    assert given["ExecStartPre"].startswith("-")
    assert given["ExecStartPre"].endswith("sync-service migrate")
    assert "postgresql" not in given.get("Requires", "") + given.get("BindsTo", "")
    assert given["Restart"] == "on-failure"
    assert given["StartLimitIntervalSec"] == "0"
    assert given["RestartPreventExitStatus"] == "2"


@pytest.mark.parametrize("line", (ROOT / "Procfile").read_text().splitlines())
def test_every_process_of_the_procfile_is_a_command(tmp_path: Path, line: str) -> None:
    process, _, command = line.partition(": ")
    assert process in {"release", "web"}
    program, *arguments = shlex.split(command)
    assert program == "sync-service"
    assert run_here(*arguments, "--help", cwd=tmp_path).returncode == 0


def test_the_commands_are_complete() -> None:
    assert [command.__name__.rpartition(".")[2] for command in COMMANDS] == [
        "dev",
        "serve",
        "migrate",
        "send",
        "token",
        "events",
        "changes",
        "carry_overs",
        "reconcile",
        "doctor",
        "mapping",
        "users",
        "docs",
        "openapi",
    ]
