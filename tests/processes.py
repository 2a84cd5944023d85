"""The `sync-service` command: as a process that tests start and stop, or as a call."""

import contextlib
import fcntl
import io
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import BinaryIO

import structlog

from sync_service import cli

COMMAND = Path(sys.executable).parent / "sync-service"

# Only a process that hangs takes this long, on a busy machine too. No test passes or fails by a shorter time.
HANG_SECONDS = 60


# Below the ephemeral ports of Linux (32,768) and macOS (49,152): the kernel gives these to no outgoing connection.
PORTS = range(20_000, 32_000)

_reserved_ports: set[int] = set()


def reserve_port() -> int:
    """Return a free port that no other call returns, in this process or in another test run, until this process ends.

    A lock on one byte of a shared file reserves a port; the kernel releases it when this process ends. To probe for a
    free port is not enough: two workers can find the same one before either of them uses it.
    """
    while True:
        port = random.choice(PORTS)
        if port in _reserved_ports:
            continue
        with contextlib.suppress(OSError), socket.socket() as probe:
            fcntl.lockf(_open_lock_file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            _reserved_ports.add(port)
            probe.bind(("127.0.0.1", port))
            return port


@cache
def _open_lock_file() -> BinaryIO:
    return (Path(tempfile.gettempdir()) / f"sync-service-test-ports-{os.getuid()}.lock").open("ab")


def run_here(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command as `run_command` does, but in this process: Python's start takes longer than most commands.

    It has a thread and so an event loop of its own. The caller's event loop stands still meanwhile.
    """
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(_run_here, arguments, cwd, _build_environ(environ)).result()
    if "QUIET" not in environ:
        print(done.stdout, done.stderr, sep="\n")
    return done


def _run_here(arguments: tuple[str, ...], cwd: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    configured, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with (
        contextlib.chdir(cwd),
        tempfile.TemporaryFile("w+") as errors,  # a file, because the log writes to its descriptor
        contextlib.redirect_stdout(io.StringIO()) as output,
        contextlib.redirect_stderr(errors),
    ):
        try:
            status = cli.run(arguments, environ)
        finally:
            structlog.configure(**configured)
            root.handlers[:] = handlers
            root.setLevel(level)
        errors.seek(0)
        return subprocess.CompletedProcess(arguments, status, output.getvalue(), errors.read())


def run_command(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a process to its end and return its output."""
    done = subprocess.run(
        [COMMAND, *arguments],
        cwd=cwd,
        env=_build_environ(environ),
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    if "QUIET" not in environ:
        print(done.stdout, done.stderr, sep="\n")  # the fixture `output` searches it for sentinels
    return done


@dataclass
class Process:
    """A running command."""

    popen: subprocess.Popen[bytes]
    log: Path
    port: int
    output: str = field(default="")

    def wait_for(self, pattern: str, seconds: float = HANG_SECONDS) -> re.Match[str]:
        """Return the match of the pattern once the output has one. Raises `AssertionError`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.output = self.log.read_text()
            if match := re.search(pattern, self.output):
                return match
            if self.popen.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"{pattern!r} is not in the output:\n{self.log.read_text()}")

    def stop(self, how: signal.Signals = signal.SIGTERM, seconds: float = HANG_SECONDS) -> int:
        """Send a signal and return the exit status."""
        self.popen.send_signal(how)
        return self.popen.wait(seconds)


@contextlib.contextmanager
def start_command(*arguments: str, cwd: Path, **environ: str) -> Iterator[Process]:
    """Start a command on a free port; it is killed after the block, and its output is printed."""
    port = int(environ.setdefault("PORT", str(reserve_port())))
    log = cwd / f"{arguments[0]}-{port}.log"
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [COMMAND, *arguments], cwd=cwd, env=_build_environ(environ), stdout=output, stderr=output
        )
    try:
        yield Process(popen, log, port)
    finally:
        if popen.poll() is None:
            popen.kill()
            popen.wait()
        if "QUIET" not in environ:
            print(log.read_text())


def _build_environ(given: dict[str, str]) -> dict[str, str]:
    return {**os.environ, "LOG_FORMAT": "json", **given}


def has_ended_within(pid: int, seconds: float = HANG_SECONDS) -> bool:
    """Return whether the process ends within this time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            # Where no init process reaps orphans, as in many containers, an ended orphan stays a zombie (Z).
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(min(0.005, seconds))
