"""The embedded PostgreSQL server: root and other users, data between starts, and no server without its parent."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from sync_service.dev import binaries as places
from sync_service.dev.binaries import find_all_binaries, find_binaries, reachable, read_major_version
from sync_service.dev.embedded import EmbeddedServer, run_embedded_postgres, running
from sync_service.errors import PostgresNotFound
from tests.processes import has_ended_within

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

STARTER = """
import signal, sys, time
from pathlib import Path
from sync_service.dev.embedded import run_embedded_postgres
with run_embedded_postgres(Path(sys.argv[1])) as server:
    print(server.pid, flush=True)
    signal.pause()
"""


def start_server(data: Path) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen([sys.executable, "-c", STARTER, str(data)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    return process, int(process.stdout.readline())


async def fetch_value(server: EmbeddedServer, sql: str) -> object:
    connection = await asyncpg.connect(server.dsn())
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def test_the_server_listens_on_a_unix_socket_only(engine: EmbeddedServer) -> None:
    assert stat.S_IMODE(engine.socket.stat().st_mode) == 0o700
    assert stat.S_IMODE(engine.data.stat().st_mode) == 0o700
    listening = Path("/proc/net/tcp")
    if listening.exists():
        assert ":1538 " not in listening.read_text()  # 5432


def test_data_is_kept_between_starts(tmp_path: Path, anyio_backend_name: str) -> None:
    import asyncio  # noqa: PLC0415  the server is started before the event loop

    data = tmp_path / "postgres"
    with run_embedded_postgres(data) as server:
        asyncio.run(fetch_value(server, "create table kept as select 42 as answer"))
        assert running(data) == server
    assert running(data) is None
    with run_embedded_postgres(data) as server:
        assert asyncio.run(fetch_value(server, "select answer from kept")) == 42


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_server_ends_with_its_parent_and_starts_again(tmp_path: Path, how: signal.Signals) -> None:
    data = tmp_path / "postgres"
    process, server = start_server(data)
    process.send_signal(how)
    assert has_ended_within(server)
    process.wait()
    again, other = start_server(data)  # at once, with the files that the last server left
    assert other != server
    again.kill()
    again.wait()
    for started in (process, again):
        assert started.stdout
        started.stdout.close()


def test_two_servers_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        run_embedded_postgres(tmp_path / "postgres"),
        pytest.raises(PostgresNotFound, match="Another process runs"),
        run_embedded_postgres(tmp_path / "postgres", lock_timeout=0.2),
    ):
        pass


def test_a_folder_of_another_version_is_not_changed(tmp_path: Path) -> None:
    data = tmp_path / "postgres"
    data.mkdir(mode=0o700)
    (data / "PG_VERSION").write_text("9\n")
    with (
        pytest.raises(PostgresNotFound, match=r"made by PostgreSQL 9.* Move that folder away"),
        run_embedded_postgres(data),
    ):
        pass
    assert (data / "PG_VERSION").read_text() == "9\n"


def test_an_interrupted_creation_leaves_no_half_made_folder(tmp_path: Path) -> None:
    data = tmp_path / "postgres"
    process = subprocess.Popen([sys.executable, "-c", STARTER, str(data)], stdout=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("*/PG_VERSION")):
        assert process.poll() is None
    process.kill()
    process.communicate()
    with run_embedded_postgres(data) as server:
        assert running(data) == server
    assert {path.name for path in tmp_path.iterdir()} == {"postgres", "postgres.lock", "postgres.log"}


def test_a_folder_with_other_files_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "notes.txt").write_text("mine")
    with (
        pytest.raises(PostgresNotFound, match="has files, but not of a database"),
        run_embedded_postgres(tmp_path / "postgres"),
    ):
        pass
    assert (tmp_path / "postgres" / "notes.txt").read_text() == "mine"


def test_a_server_that_does_not_start_names_its_log(tmp_path: Path) -> None:
    data = tmp_path / "postgres"
    with (
        pytest.raises(PostgresNotFound, match=r"postgres\.log says why"),
        run_embedded_postgres(data, settings={"no_such": "1"}),
    ):
        pass
    assert "no_such" in (tmp_path / "postgres.log").read_text()


def test_without_postgresql_the_error_names_both_solutions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(places, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(places, "Path", lambda _: tmp_path)
    with pytest.raises(PostgresNotFound, match=r"DATABASE_URL.*sync-service\[embedded\]"):
        find_binaries()


def test_installed_binaries_are_found_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("initdb", "postgres"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setattr(places, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_all_binaries()[0] == tmp_path


@as_root
def test_root_opens_no_folder_to_other_users(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    before = [path.stat().st_mode for path in (closed, *closed.parents)]
    with run_embedded_postgres(closed / ".sync-service" / "postgres") as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid == NOBODY
    assert [path.stat().st_mode for path in (closed, *closed.parents)] == before
    assert stat.S_IMODE((closed / ".sync-service").stat().st_mode) == 0o700


def connect_as(user: int, server: EmbeddedServer) -> subprocess.CompletedProcess[str]:
    """Connect to the server as another user of this machine; print the role."""
    code = """
import asyncio, asyncpg, os, sys
os.setgroups([]), os.setgid(int(sys.argv[2])), os.setuid(int(sys.argv[2]))
async def show_role():
    connection = await asyncpg.connect(sys.argv[1])
    print(await connection.fetchval("select current_user"))
    await connection.close()
asyncio.run(show_role())
"""
    command = [sys.executable, "-c", code, server.dsn(), str(user)]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)


@as_root
@pytest.mark.parametrize("place", find_all_binaries(), ids=read_major_version)
def test_a_server_of_root_refuses_other_processes_of_its_user(tmp_path: Path, place: Path) -> None:
    data = tmp_path / "postgres"
    for _ in range(2):  # also with data that a server has used before
        with run_embedded_postgres(data, binaries=place) as server:
            assert Path(f"/proc/{server.pid}").stat().st_uid == NOBODY
            assert connect_as(0, server).stdout == "postgres\n"
            refused = connect_as(NOBODY, server)
            assert refused.returncode == 1
            assert "Peer authentication failed" in refused.stderr
            for file in ("hba_file", "ident_file"):
                assert (server.socket.parent / file).stat().st_uid == 0
        (data / "pg_hba.conf").write_text("local all all trust\n")  # this file has no effect


@as_root
@pytest.mark.skipif("run_embedded_postgres" not in str(find_binaries()), reason="about the package's binaries")
def test_root_runs_binaries_below_a_closed_folder(tmp_path: Path) -> None:
    closed = tmp_path / "venv"
    closed.mkdir(mode=0o700)
    package = find_binaries().parent.parent
    for folder in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(folder, closed / folder.name, symlinks=True)
    there = closed / package.name / "pginstall/bin"
    copy = reachable(there)
    try:
        assert copy != there
        assert reachable(there) == copy  # made once
        with run_embedded_postgres(tmp_path / "postgres", binaries=there) as server:
            assert Path(f"/proc/{server.pid}/exe").resolve() == copy / "postgres"
    finally:
        shutil.rmtree(copy.parents[2])


@as_root
def test_a_user_other_than_root_runs_the_server_as_itself(tmp_path_factory: pytest.TempPathFactory) -> None:
    import tempfile  # noqa: PLC0415

    there = reachable(find_binaries())
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, NOBODY, NOBODY)
        child = os.fork()
        if not child:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            status = 1
            try:
                with run_embedded_postgres(Path(folder) / "data" / "postgres", binaries=there) as server:
                    status = 0 if Path(f"/proc/{server.pid}").stat().st_uid == NOBODY else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0


def test_the_version_of_the_binaries_is_read(engine: EmbeddedServer) -> None:
    made_by = (engine.data / "PG_VERSION").read_text().strip()
    assert made_by in {read_major_version(place) for place in find_all_binaries()}
