"""The measured targets on one durable PostgreSQL: the service, a bare route, and the usual handler in two languages.

Each has a process of its own, so that CPU and memory can be measured separately.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2

from sync_service.dev.embedded import EmbeddedServer, run_embedded_postgres
from tests.clerk_stub import API_TOKEN, ISSUER, export_public_key
from tests.processes import HANG_SECONDS, reserve_port, run_command, start_command
from tests.tools import JAVASCRIPT
from tests.world import SECRET

NODE_HANDLER = Path(__file__).with_name("usual_handler.mjs")


@dataclass(frozen=True)
class Target:
    """A route of a process."""

    name: str
    pid: int
    port: int
    path: str


@dataclass(frozen=True)
class Targets:
    """All targets, and the PostgreSQL server. Without Node.js and its packages `node` is None."""

    bare: Target
    usual: Target
    node: Target | None
    service: Target
    postgres: EmbeddedServer

    def __iter__(self) -> Iterator[Target]:
        return iter((self.bare, *self.writers))

    @property
    def writers(self) -> tuple[Target, ...]:
        """The targets that store users. The first one is the usual handler in Python, the last one is the service."""
        return (self.usual, *([self.node] if self.node else []), self.service)


@contextlib.contextmanager
def run_targets(**settings: str) -> Iterator[Targets]:
    """Start all targets and PostgreSQL with its default, durable settings, except those given."""
    with (
        tempfile.TemporaryDirectory() as name,
        run_embedded_postgres(Path(name) / "postgres", settings=settings) as postgres,
    ):
        folder = Path(name)
        environ = {"DATABASE_URL": postgres.dsn(), "CLERK_WEBHOOK_SIGNING_SECRET": SECRET, "WEB_CONCURRENCY": "1"}
        environ["QUIET"] = "1"
        run_command("migrate", cwd=folder, **environ)
        with (
            _run_reference(environ, folder) as bare,
            _run_reference(environ, folder) as usual,
            _run_node(environ, folder) as node,
            start_command("serve", cwd=folder, **environ) as service,
        ):
            service.wait_for('"event":"ready"')
            yield Targets(
                Target("(a) a bare route", *bare, "/bare"),
                Target("(b) the usual handler", *usual, "/usual"),
                node and Target("(c) usual on Node.js", *node, "/usual"),
                Target("sync-service", service.popen.pid, service.port, "/webhooks/clerk"),
                postgres,
            )


@contextlib.contextmanager
def run_login_targets() -> Iterator[tuple[EmbeddedServer, int, int]]:
    """Start PostgreSQL, the reference and the service with session tokens; yield the server and the two ports."""
    with tempfile.TemporaryDirectory() as name, run_embedded_postgres(Path(name) / "postgres") as postgres:
        folder = Path(name)
        environ = {"DATABASE_URL": postgres.dsn(), "CLERK_WEBHOOK_SIGNING_SECRET": SECRET, "WEB_CONCURRENCY": "1"}
        environ |= {
            "CLERK_JWT_KEY": export_public_key(),
            "CLERK_ISSUER": ISSUER,
            "SYNC_API_TOKEN": API_TOKEN,
            "QUIET": "1",
        }
        run_command("migrate", cwd=folder, **environ)
        with _run_reference(environ, folder) as (_, bare), start_command("serve", cwd=folder, **environ) as service:
            service.wait_for('"event":"ready"')
            yield postgres, bare, service.port


@contextlib.contextmanager
def _run_reference(environ: dict[str, str], folder: Path) -> Iterator[tuple[int, int]]:
    """Yield the process ID and the port of a reference."""
    port = reserve_port()
    words = [sys.executable, "-m", "uvicorn", "--factory", "tests.benchmarks.references:app", "--port", str(port)]
    words += ["--no-access-log", "--log-level", "warning", "--loop", "uvloop", "--http", "httptools"]
    with _run_server(words, port, environ, folder) as found:
        yield found


@contextlib.contextmanager
def _run_node(environ: dict[str, str], folder: Path) -> Iterator[tuple[int, int] | None]:
    """Yield the process ID and the port of the usual handler on Node.js, or None if something is not installed."""
    node = shutil.which("node")
    if not node or not (JAVASCRIPT / "node_modules" / "express").is_dir():
        missing = "its packages are not installed; `make javascript` installs them"
        print(f"  without (c), the usual handler on Node.js: {missing if node else 'Node.js is not installed'}")
        yield None
        return
    port = reserve_port()
    environ = environ | {"PORT": str(port), "NODE_ENV": "production"}
    with _run_server([node, str(NODE_HANDLER), str(JAVASCRIPT)], port, environ, folder) as found:
        yield found


@contextlib.contextmanager
def _run_server(words: list[str], port: int, environ: dict[str, str], folder: Path) -> Iterator[tuple[int, int]]:
    with (folder / f"references-{port}.log").open("wb") as log:
        server = subprocess.Popen(words, env=os.environ | environ, stdout=log, stderr=log)
    try:
        wait_for_server(server, port)
        yield server.pid, port
    finally:
        server.terminate()
        server.wait()


def wait_for_server(server: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the process responds to requests. Raises `AssertionError`."""
    deadline = time.monotonic() + HANG_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx2.TransportError):
            httpx2.get(f"http://127.0.0.1:{port}/")
            return
        time.sleep(0.02)
    raise AssertionError(f"the server on port {port} did not start: {server.args!r}")
