"""Logging never changes a response: lines that cannot be rendered or written are lost and counted."""

import contextlib
import logging
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog

from sync_service.logs import configure_logging
from tests.processes import COMMAND, HANG_SECONDS, reserve_port
from tests.world import SECRET, encode_body, make_event, make_message_id, sign_event, wait_until

LOST = "sync_service_log_lines_lost_total"


def open_full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def open_pipe_without_reader() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def open_full_pipe() -> int:
    """Return the end of a pipe whose reader reads no byte; the reader stays open as long as this process."""
    _, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    return writer


def open_no_log() -> None:
    """Return None for a closed standard error: Python has no `sys.stderr`, and a socket could get its number."""


LOGS = {
    "closed": open_no_log,
    "full disk": open_full_disk,
    "no reader": open_pipe_without_reader,
    "full pipe": open_full_pipe,
}


@contextlib.contextmanager
def serve_with_log(
    log: int | None, database: str, cwd: Path, **environ: str
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run `serve` with its standard error in the file `log`."""
    port = str(reserve_port())
    settings = {"DATABASE_URL": database, "CLERK_WEBHOOK_SIGNING_SECRET": SECRET, "PORT": port, **environ}
    close = "" if log else "2>&-"
    popen = subprocess.Popen(
        ["sh", "-c", f'exec "$0" serve {close}', COMMAND], cwd=cwd, env=os.environ | settings, stderr=log
    )
    try:
        yield f"http://127.0.0.1:{port}", popen
    finally:
        popen.kill()
        popen.wait()
        if log:
            os.close(log)


def is_healthy(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/healthz").is_success
    except httpx2.TransportError:
        return False


def read_lost_lines(url: str) -> float:
    [line] = [line for line in httpx2.get(f"{url}/metrics").text.splitlines() if line.startswith(f"{LOST} ")]
    return float(line.split()[1])


@pytest.mark.parametrize(
    ("log", "workers"), [("closed", "1"), ("full disk", "1"), ("closed", "2"), ("no reader", "2"), ("full pipe", "2")]
)
async def test_without_a_log_every_response_is_the_same(tmp_path: Path, database: str, log: str, workers: str) -> None:
    """Webhooks, refusals, logins and the exit status do not depend on the log, in one process or several."""
    with serve_with_log(LOGS[log](), database, tmp_path, WEB_CONCURRENCY=workers) as (url, service):
        await wait_until(lambda: is_healthy(url))
        for event_type in ("user.created", "user.updated", "user.deleted"):
            body = encode_body(make_event(event_type, "user_1"))
            response = httpx2.post(f"{url}/webhooks/clerk", content=body, headers=sign_event(body, make_message_id()))
            assert (response.status_code, response.json()["outcome"]) in {(200, "applied"), (200, "stale")}
        assert httpx2.post(f"{url}/webhooks/clerk", content=b"{}").status_code == 400
        assert httpx2.post(f"{url}/sync").status_code == 401
        assert httpx2.get(f"{url}/nowhere").status_code == 404
        httpx2.get(url, headers={"connection": "upgrade", "upgrade": "websocket"})  # uvicorn logs a warning
        assert log == "closed" or read_lost_lines(url) >= 5
        service.terminate()
        assert service.wait(HANG_SECONDS) == 0


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("value", [Unprintable(), "\ud800", 2**70, float("nan"), {1: {2: 3}}, [[[]]] * 3])
def test_no_value_of_a_line_disturbs_its_caller(tmp_path: Path, form: str, value: Any) -> None:
    with (tmp_path / "log").open("w") as stream:
        configure_logging(form=form, stream=stream)
        structlog.get_logger().info("first", value=value)
        logging.getLogger("library").warning("%s %d", value, "no number")
        structlog.get_logger().info("last")
    assert "last" in (tmp_path / "log").read_text().splitlines()[-1]


def test_a_failed_line_of_a_library_prints_no_argument(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The standard library prints the message and its arguments if it cannot format them."""
    with (tmp_path / "log").open("w") as stream:
        configure_logging(stream=stream)
        logging.getLogger("library").warning("%d", "PERSON")
    assert "PERSON" not in "".join(capfd.readouterr()) + (tmp_path / "log").read_text()


def test_lines_appear_again_once_the_reader_reads(tmp_path: Path) -> None:
    """A line that was written in part is ended before the next one."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with open(writer, "w") as stream:  # noqa: PTH123  a descriptor has no path
        configure_logging(form="json", stream=stream)
        structlog.get_logger().info("x" * 100_000)
        structlog.get_logger().info("lost")
        read = os.read(reader, 100_000)
        structlog.get_logger().info("shown")
        lines = (read + os.read(reader, 100_000)).decode().splitlines()
    os.close(reader)
    assert len(lines) == 2
    assert '"event":"shown"' in lines[1]


def test_threads_that_log_at_once_lose_no_line(tmp_path: Path) -> None:
    """A library that runs in a thread logs beside a request."""
    file = tmp_path / "log"
    with file.open("w") as stream, ThreadPoolExecutor(4) as threads:
        configure_logging(form="json", stream=stream)
        log = structlog.get_logger()
        list(threads.map(lambda number: [log.info("line", number=number) for _ in range(500)], range(4)))
    assert len(file.read_text().splitlines()) == 2000
