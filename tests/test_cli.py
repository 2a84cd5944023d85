"""The commands as processes: their output, their exit status, and that no process outlives them."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import httpx2
import pytest

from sync_service.postgres.migrate import get_needed_version
from sync_service.postgres.pool import MAX_CONNECTIONS
from tests.processes import COMMAND, HANG_SECONDS, has_ended_within, reserve_port, run_command, run_here, start_command
from tests.scrape import read_documented_families, read_families, read_series
from tests.world import (
    OLDER_SECRET,
    PII_SENTINEL,
    SECRET,
    count_lock_waiters,
    encode_body,
    make_event,
    make_message_id,
    sign_event,
    wait_until,
)

READY = r'"event":"ready"'


def list_descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    listed = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines()[1:]:
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    found = [pid]
    for process in found:
        found += children.get(process, [])
    return found[1:]


async def add_dead_event(database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute(
        "insert into clerk_sync.events (id, type, status, payload) values ('m', 't', 'dead', '{}')"
    )
    await connection.close()


def is_server(pid: int) -> bool:
    """Return whether a process is a worker, not the tracker of multiprocessing's resources."""
    return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_dev_needs_no_settings(tmp_path: Path) -> None:
    """The README's first page works: start, send, look; Ctrl-C and a second start keep the data (N1)."""
    with start_command("dev", cwd=tmp_path) as dev:
        dev.wait_for(READY)
        address = f"http://127.0.0.1:{dev.port}/webhooks/clerk"
        assert address in dev.output
        assert re.search(r"whsec_[A-Za-z0-9+/]{32}", dev.output)
        assert "sync-service send user.created" in dev.output
        assert f"clerk webhooks listen --forward-to {address}" in dev.output
        assert str(tmp_path / ".sync-service" / "postgres") in dev.output
        for name in ("signing-secret", "ops-token"):
            assert oct((tmp_path / ".sync-service" / name).stat().st_mode)[-3:] == "600"
        token = (tmp_path / ".sync-service" / "ops-token").read_text().strip()
        assert f"Its token       {token}" in dev.output
        summary = httpx2.get(
            f"http://127.0.0.1:{dev.port}/ops/summary", headers={"Authorization": f"Bearer {token}"}, timeout=60
        )
        assert summary.status_code == 200

        sent = run_command("send", "user.created", "--user", "user_1", cwd=tmp_path, PORT=str(dev.port))
        assert sent.returncode == 0
        assert sent.stdout.startswith('200 {"outcome":"applied"}')
        shown = run_here("users", "show", "user_1", cwd=tmp_path)
        assert shown.returncode == 0
        assert "1@example.com" in shown.stdout
        assert "user.created" in shown.stdout

        for event_type, outcome in (
            ("user.updated", "applied"),
            ("session.created", "applied"),
            ("email.created", "ignored"),
            ("user.deleted", "applied"),
        ):
            sent = run_here("send", event_type, "--user", "user_1", "--json", cwd=tmp_path, PORT=str(dev.port))
            assert json.loads(sent.stdout)["answer"] == {"outcome": outcome}
        history = json.loads(run_here("users", "show", "user_1", "--json", cwd=tmp_path).stdout)
        assert history["row"] is None
        assert history["identity"]["deleted_at"]
        types = ["user.deleted", "session.created", "user.updated", "user.created"]
        assert [line["type"] for line in history["events"]] == types
        assert "the deletion is final" in run_here("users", "show", "user_1", cwd=tmp_path).stdout
        assert (
            run_here("migrate", "--check", cwd=tmp_path).stdout
            == f"The schema is up to date, at version {get_needed_version()}.\n"
        )
        family = list_descendants(dev.popen.pid)
        assert dev.stop(signal.SIGINT) == 130
        assert all(has_ended_within(pid) for pid in family)
    with start_command("dev", cwd=tmp_path) as dev:
        dev.wait_for(READY)
        assert run_here("users", "show", "user_1", cwd=tmp_path).returncode == 0
        assert dev.stop() == 0


def test_no_process_outlives_a_killed_dev(tmp_path: Path) -> None:
    with start_command("dev", cwd=tmp_path) as dev:
        dev.wait_for(READY)
        family = list_descendants(dev.popen.pid)
        assert len(family) >= 3  # the app, PostgreSQL and PostgreSQL's own processes
        dev.popen.kill()
        assert all(has_ended_within(pid) for pid in family)
    with start_command("dev", cwd=tmp_path) as dev:
        dev.wait_for(READY)
        assert dev.stop() == 0


def test_dev_uses_the_configured_database_and_secret(tmp_path: Path, database: str) -> None:
    with start_command("dev", cwd=tmp_path, DATABASE_URL=database, CLERK_WEBHOOK_SIGNING_SECRET=SECRET) as dev:
        dev.wait_for(READY)
        assert "the one in CLERK_WEBHOOK_SIGNING_SECRET" in dev.output
        assert not (tmp_path / ".sync-service" / "postgres").exists()
        assert not (tmp_path / ".sync-service" / "signing-secret").exists()
        sent = run_here("send", "user.created", cwd=tmp_path, PORT=str(dev.port), CLERK_WEBHOOK_SIGNING_SECRET=SECRET)
        assert sent.returncode == 0


@pytest.mark.parametrize("command", ["dev", "serve"])
def test_a_port_in_use_is_reported_before_the_start(tmp_path: Path, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        environ = (
            {"DATABASE_URL": "postgresql://h/db", "CLERK_WEBHOOK_SIGNING_SECRET": SECRET} if command == "serve" else {}
        )
        done = run_command(command, cwd=tmp_path, PORT=port, HOST="127.0.0.1", **environ)
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert "Set PORT to another" in done.stderr


def test_serve_without_settings_names_all_of_them(tmp_path: Path) -> None:
    """`serve` exits with 2 and names each missing or invalid setting, also an empty secret (B8)."""
    done = run_here("serve", cwd=tmp_path, PORT="x", CLERK_WEBHOOK_SIGNING_SECRET="")
    assert done.returncode == 2
    for name in ("DATABASE_URL", "CLERK_WEBHOOK_SIGNING_SECRET", "PORT"):
        assert f"  {name}: " in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("wrong", ["sk_test_SECRET_SENTINEL", f"v1,{OLDER_SECRET}", "whsec_SECRET_SENTINEL!"])
def test_serve_with_an_invalid_secret_names_the_variable_only(tmp_path: Path, wrong: str) -> None:
    """The error names the variable and does not contain its value (B9)."""
    done = run_here("serve", cwd=tmp_path, DATABASE_URL="postgresql://h/db", CLERK_WEBHOOK_SIGNING_SECRET=wrong)
    assert done.returncode == 2
    assert "CLERK_WEBHOOK_SIGNING_SECRET: " in done.stderr
    assert wrong not in done.stderr


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["send"], ["send", "x", "--count", "0"], ["users"], ["serve", "--x"]]
)
def test_wrong_usage_is_status_2(tmp_path: Path, arguments: list[str]) -> None:
    done = run_here(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "usage: sync-service" in done.stderr


@pytest.mark.parametrize("command", ["dev", "serve", "migrate", "send", "users", "users show"])
def test_every_command_has_help(tmp_path: Path, command: str) -> None:
    done = run_here(*command.split(), "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: sync-service {command}")


@pytest.mark.parametrize(
    ("workers", "how", "status"), [("1", signal.SIGINT, 130), ("2", signal.SIGTERM, 0), ("2", signal.SIGINT, 130)]
)
def test_serve_stops_at_a_signal(tmp_path: Path, database: str, workers: str, how: signal.Signals, status: int) -> None:
    """A folder for the metrics of another program, in the environment, is not used."""
    environ = {"DATABASE_URL": database, "CLERK_WEBHOOK_SIGNING_SECRET": SECRET, "WEB_CONCURRENCY": workers}
    with start_command("serve", cwd=tmp_path, PROMETHEUS_MULTIPROC_DIR="/nonexistent", **environ) as service:
        service.wait_for(READY)
        for path in ("/healthz", "/metrics"):
            assert httpx2.get(f"http://127.0.0.1:{service.port}{path}").status_code == 200
        assert service.stop(how) == status


def test_workers_share_their_metrics_and_do_not_outlive_a_killed_parent(tmp_path: Path, database: str) -> None:
    """All workers return the same figures. Those of a killed worker stay, except for its gauges."""
    environ = {"DATABASE_URL": database, "CLERK_WEBHOOK_SIGNING_SECRET": SECRET, "WEB_CONCURRENCY": "2"}
    with start_command("serve", cwd=tmp_path, **environ) as service:
        service.wait_for(f"(?s){READY}.*{READY}")
        address = f"http://127.0.0.1:{service.port}"
        for _ in range(20):  # one connection per request, so that both processes get some
            assert httpx2.post(f"{address}/webhooks/clerk", content=b"{}").status_code == 400
        began = time.monotonic()
        answers = {httpx2.get(f"{address}/metrics").text}
        asyncio.run(add_dead_event(database))  # the figures are not 8 s old, so no process reads them again
        answers |= {httpx2.get(f"{address}/metrics").text for _ in range(8)}
        assert len(answers) == 1 or time.monotonic() - began > 7
        text = answers.pop()
        assert {family.name for family in read_families(text)} == read_documented_families().keys()
        series = read_series(text)
        assert series["sync_service_pool_connections_max"] == 2 * MAX_CONNECTIONS
        assert series["sync_service_webhook_duration_seconds_count"] == 20
        worker = next(pid for pid in list_descendants(service.popen.pid) if is_server(pid))
        os.kill(worker, signal.SIGKILL)
        service.wait_for(f"(?s)({READY}.*){{3}}")
        deadline = time.monotonic() + HANG_SECONDS
        while (series := read_series(httpx2.get(f"{address}/metrics").text)) and time.monotonic() < deadline:
            if series["sync_service_pool_connections_max"] == 2 * MAX_CONNECTIONS:
                break
        assert series["sync_service_pool_connections_max"] == 2 * MAX_CONNECTIONS
        assert series['sync_service_webhooks_total{outcome="missing_headers"}'] == 20
        workers = list_descendants(service.popen.pid)
        service.popen.kill()
        assert all(has_ended_within(pid) for pid in workers)


def test_workers_that_still_start_do_not_outlive_a_killed_parent(tmp_path: Path, database: str) -> None:
    environ = {"DATABASE_URL": database, "CLERK_WEBHOOK_SIGNING_SECRET": SECRET, "WEB_CONCURRENCY": "2"}
    with start_command("serve", cwd=tmp_path, **environ) as service:
        workers: list[int] = []
        while len(workers) < 2:
            assert service.popen.poll() is None
            workers = list_descendants(service.popen.pid)
        service.popen.kill()
        assert all(has_ended_within(pid) for pid in workers)


async def test_running_requests_are_finished_before_the_stop(
    tmp_path: Path, database: str, db: asyncpg.Connection
) -> None:
    """After SIGTERM running requests are committed and get their responses; only stored events get 2xx."""
    environ = {"DATABASE_URL": database, "CLERK_WEBHOOK_SIGNING_SECRET": SECRET}
    with start_command("serve", cwd=tmp_path, **environ) as service:
        await asyncio.to_thread(service.wait_for, READY)
        lock = db.transaction()
        await lock.start()
        await db.execute("lock table users in share mode")
        ids = [make_message_id() for _ in range(10)]
        under_way = await asyncio.gather(*(begin_delivery(service.port, message_id) for message_id in ids))
        looking = await asyncpg.connect(database)
        await wait_until(lambda: count_lock_waiters(looking))
        await looking.close()
        service.popen.send_signal(signal.SIGTERM)
        await asyncio.to_thread(service.wait_for, "Shutting down")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", service.port)
        await lock.rollback()
        responses = [await reader.read() for reader, _ in under_way]
        assert {response.split()[1] for response in responses} == {b"200"}
        filed = {row["id"] for row in await db.fetch("select id from clerk_sync.events where status = 'applied'")}
        assert filed == set(ids)
        assert service.popen.wait(HANG_SECONDS) == 0
        for _, writer in under_way:
            writer.close()


async def begin_delivery(port: int, message_id: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send an event; return once the service is processing the request: it sends `100 Continue`."""
    body = encode_body(make_event("user.created", f"user_of_{message_id}"))
    headers = {"host": "service", "content-length": str(len(body)), "expect": "100-continue"}
    lines = [f"{name}: {value}" for name, value in (headers | sign_event(body, message_id)).items()]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write("\r\n".join(["POST /webhooks/clerk HTTP/1.1", *lines, "", ""]).encode())
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    return reader, writer


def test_migrate_updates_the_schema_and_check_reports_its_state(tmp_path: Path, empty_database: str) -> None:
    check = run_here("migrate", "--check", cwd=tmp_path, DATABASE_URL=empty_database)
    assert check.returncode == 1
    assert "behind" in check.stdout
    done = run_here("migrate", cwd=tmp_path, DATABASE_URL=empty_database)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "Ran 0001_inbox_and_identities.")
    check = run_here("migrate", "--check", "--json", cwd=tmp_path, DATABASE_URL=empty_database)
    assert check.returncode == 0
    assert json.loads(check.stdout) == {
        "ran": [],
        "version": get_needed_version(),
        "needed": get_needed_version(),
        "ready": True,
    }


def test_ten_migrates_at_once_all_succeed(tmp_path: Path, empty_database: str) -> None:
    environ = {"DATABASE_URL": empty_database}
    ten = [
        subprocess.Popen([COMMAND, "migrate"], cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True)
        for _ in range(10)
    ]
    said = [process.communicate(timeout=60)[0] for process in ten]
    assert [process.returncode for process in ten] == [0] * 10
    assert sum("Ran 0001" in text for text in said) == 1


def test_an_unreachable_database_is_reported_without_its_dsn(tmp_path: Path) -> None:
    dsn = f"postgresql://u:SECRET_SENTINEL@127.0.0.1:{reserve_port()}/db"
    done = run_here("migrate", cwd=tmp_path, DATABASE_URL=dsn)
    assert done.returncode == 1
    assert "The database of DATABASE_URL cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_database_the_message_names_the_variable_and_dev(tmp_path: Path) -> None:
    done = run_here("users", "show", "user_1", cwd=tmp_path)
    assert done.returncode == 2
    assert "DATABASE_URL: not set" in done.stderr
    assert "sync-service dev" in done.stderr


def test_send_without_a_service_names_the_command_to_start(tmp_path: Path) -> None:
    done = run_here("send", "user.created", cwd=tmp_path, PORT=str(reserve_port()), CLERK_WEBHOOK_SIGNING_SECRET=SECRET)
    assert done.returncode == 1
    assert "Start the service with `sync-service dev`" in done.stderr


def test_send_takes_count_user_id_and_data(tmp_path: Path, database: str) -> None:
    environ = {"CLERK_WEBHOOK_SIGNING_SECRET": SECRET, "DATABASE_URL": database}
    with start_command("serve", cwd=tmp_path, **environ) as service:
        service.wait_for(READY)
        environ["PORT"] = str(service.port)
        many = run_here("send", "user.created", "--count", "5", cwd=tmp_path, **environ)
        assert len(many.stdout.splitlines()) == 5
        assert len(set(many.stdout.splitlines())) == 5

        fields = tmp_path / "fields.json"
        fields.write_text(json.dumps({"first_name": "Özge", "banned": True}))
        run_here(
            "send",
            "user.created",
            "--user",
            "user_x",
            "--data",
            "fields.json",
            "--id",
            "msg_x",
            cwd=tmp_path,
            **environ,
        )
        found = json.loads(run_here("users", "show", "user_x", "--json", cwd=tmp_path, **environ).stdout)
        assert (found["row"]["first_name"], found["row"]["banned"]) == ("Özge", True)
        assert found["events"][0]["id"] == "msg_x"

        whole = tmp_path / "event.json"
        body = make_event("user.updated", "user_y")
        body["data"] |= {"first_name": "Exact", "last_name": None}
        whole.write_text(json.dumps(body, indent=3))
        assert run_here("send", "user.updated", "--data", "event.json", cwd=tmp_path, **environ).returncode == 0
        assert "Exact" in run_here("users", "show", "user_y", cwd=tmp_path, **environ).stdout

        refused = run_here(
            "send", "user.created", cwd=tmp_path, **environ | {"CLERK_WEBHOOK_SIGNING_SECRET": OLDER_SECRET}
        )
        assert refused.returncode == 1
        assert refused.stdout.startswith("400 ")
        assert "bad_signature" in refused.stdout
        assert run_here("users", "show", "user_unknown", cwd=tmp_path, **environ).returncode == 1


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("{", "data.json is not JSON: Expecting property name"),
        ("[]", "does not contain a JSON object"),
        (None, "cannot be read"),
    ],
)
def test_send_with_invalid_data_is_status_2(tmp_path: Path, content: str | None, word: str) -> None:
    if content is not None:
        (tmp_path / "data.json").write_text(content)
    done = run_here("send", "user.created", "--data", "data.json", cwd=tmp_path, CLERK_WEBHOOK_SIGNING_SECRET=SECRET)
    assert done.returncode == 2
    assert word in done.stderr


def test_commands_without_verification_do_not_import_svix() -> None:
    """Svix imports its whole API client: half a second and 40 MB."""
    code = "import sys, sync_service.cli; print([m for m in ('svix', 'httpx2', 'uvicorn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("form", ["json", "console"])
def test_the_log_is_json_or_text_without_personal_data(tmp_path: Path, database: str, form: str) -> None:
    """At the log level `debug` the log of a real process contains no sentinel (I4)."""
    environ = {"DATABASE_URL": database, "CLERK_WEBHOOK_SIGNING_SECRET": SECRET, "LOG_LEVEL": "debug"}
    with start_command("serve", cwd=tmp_path, LOG_FORMAT=form, **environ) as service:
        service.wait_for("ready")
        url = f"http://127.0.0.1:{service.port}/webhooks/clerk"
        for body in (
            make_event("user.created", "user_1"),
            make_event("user.updated", "user_1", email_addresses=PII_SENTINEL),
        ):
            content, message_id = encode_body(body), make_message_id()
            assert httpx2.post(url, content=content, headers=sign_event(content, message_id)).is_success
        service.stop()
        log = service.log.read_text()
    assert PII_SENTINEL not in log
    for line in log.splitlines():
        if form == "json":
            assert {"event", "level", "timestamp"} <= json.loads(line).keys()
        else:
            assert not line.startswith("{")
