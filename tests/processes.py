"""Processes of the `sync-service` command that tests start and stop."""

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

COMMAND = Path(sys.executable).parent / "sync-service"


def find_free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_stable_port() -> int:
    """Return a free port for a process that is restarted; the kernel gives it to no outgoing connection."""
    while True:
        port = random.randrange(20_000, 32_000)  # below the ephemeral ports of Linux (32,768) and macOS (49,152)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def run_command(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return its output."""
    done = subprocess.run(
        [COMMAND, *arguments],
        cwd=cwd,
        env=_build_environ(environ),
        capture_output=True,
        text=True,
        timeout=60,
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

    def wait_for(self, pattern: str, seconds: float = 30) -> re.Match[str]:
        """Return the match of the pattern once the output has one. Raises `AssertionError`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.output = self.log.read_text()
            if match := re.search(pattern, self.output):
                return match
            if self.popen.poll() is not None:
                break
            time.sleep(0.01)
        raise AssertionError(f"{pattern!r} is not in the output:\n{self.log.read_text()}")

    def stop(self, how: signal.Signals = signal.SIGTERM, seconds: float = 20) -> int:
        """Send a signal and return the exit status."""
        self.popen.send_signal(how)
        return self.popen.wait(seconds)


@contextlib.contextmanager
def start_command(*arguments: str, cwd: Path, **environ: str) -> Iterator[Process]:
    """Start a command on a free port; it is killed after the block, and its output is printed."""
    port = int(environ.setdefault("PORT", str(find_free_port())))
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


def has_ended_within(pid: int, seconds: float) -> bool:
    """Return whether the process ends within this time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            # Where no init process reaps orphans, as in many containers, an ended orphan stays a zombie (Z).
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.005)
    return False
