"""The command line as a new user meets it: version, completion, wrong input, output that nobody reads any more."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import shtab

from sync_service.clerk.event_types import EVENT_TYPES, find_intended_type
from sync_service.cli.dev import _format_welcome
from sync_service.cli.global_options import FILE_COMPLETION
from sync_service.cli.program import find_program
from sync_service.postgres.migrate import LOCK_KEY
from sync_service.settings import read_settings
from tests.processes import COMMAND, HANG_SECONDS, reserve_port, run_command, run_here, start_command
from tests.world import SECRET, T1, T2, World, make_email_fields, make_event, make_message_id

READY = r'"event":"ready"'


@pytest.fixture
def environment(tmp_path: Path, database: str) -> dict[str, Any]:
    return {"cwd": tmp_path, "DATABASE_URL": database, "CLERK_WEBHOOK_SIGNING_SECRET": SECRET}


def test_the_version_is_the_package_s(tmp_path: Path) -> None:
    done = run_command("--version", cwd=tmp_path)
    assert done.returncode == 0
    assert re.fullmatch(r"sync-service \d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize("shell", shtab.SUPPORTED_SHELLS)
def test_a_completion_script_names_the_commands(tmp_path: Path, shell: str) -> None:
    done = run_here("--print-completion", shell, cwd=tmp_path)
    assert done.returncode == 0
    for word in ("events", "replay", "migrate"):
        assert word in done.stdout


def test_bash_completes_commands_options_and_files(tmp_path: Path) -> None:
    (tmp_path / "script").write_text(run_here("--print-completion", "bash", cwd=tmp_path).stdout)
    (tmp_path / "fields.json").touch()

    def complete(*words: str) -> set[str]:
        code = (
            f"source ./script; COMP_WORDS=({' '.join(words)} ''); COMP_CWORD={len(words)};"
            ' $(complete -p sync-service | sed "s/.*-F \\([^ ]*\\).*/\\1/"); printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
        return set(done.stdout.split())

    assert {"dev", "serve", "events"} <= complete("sync-service")
    assert {"list", "show", "replay"} <= complete("sync-service", "events")
    assert "fields.json" in complete("sync-service", "send", "user.created", "--data")


def test_files_are_completed_as_shtab_does() -> None:
    assert FILE_COMPLETION == shtab.FILE


def test_an_unknown_shell_is_status_2_and_the_message_names_the_shells(tmp_path: Path) -> None:
    done = run_here("--print-completion", "csh", cwd=tmp_path)
    assert done.returncode == 2
    assert "bash, zsh" in done.stderr


WRONG = [
    (["events", "list", "--limit", "0"], "is not a whole number from 1 to"),
    (["events", "list", "--limit", "-1"], "is not a whole number from 1 to"),
    (["events", "list", "--limit", "many"], "is not a whole number from 1 to"),
    (["events", "list", "--limit", "99999999999999999999"], "is not a whole number from 1 to"),
    (["events", "list", "--since", "999999d"], "is longer than a hundred years"),
    (["events", "list", "--since", "99999999999999999999h"], "is not a duration"),
    (["events", "list", "--since", "yesterday"], "write 2026-01-31T12:00, or 2h"),
    (["events", "list", "--since", "0001-01-01T00:00+14:00"], "write 2026-01-31T12:00, or 2h"),
    (["events", "replay", "--until", "9999-12-31T23:59-14:00"], "write 2026-01-31T12:00, or 2h"),
    (["events", "list", "--user", "\udcff"], "is not an ID"),
    (["events", "list", "--type", "\udcff"], "is not valid UTF-8"),
    (["events", "show", "\udcff"], "is not an ID"),
    (["events", "show", ""], "is not an ID"),
    (["events", "replay"], "name the IDs of events, or a filter such as --status dead"),
    (["events", "replay", "msg_1", "--status", "dead"], "name the IDs of events, or a filter, not both"),
    (["events", "replay", ""], "is not an ID"),
    (["users", "show", ""], "is not an ID"),
    (["users", "restore", "two words"], "is not an ID"),
    (["mapping", "suggest", "--table", ""], "is empty"),
    (["mapping", "suggest", "--table", "\udcff"], "is not valid UTF-8"),
    (["send", "user.created", "--count", "0"], "is not a whole number from 1 to"),
    (["send", "user.created", "--count", "1e3"], "is not a whole number from 1 to"),
    (["send", "user.created", "--id", "é"], "is not an ID"),
    (["send", "user.created", "--id", ""], "is not an ID"),
    (["send", "user.created", "--user", "\udcff"], "is not an ID"),
    (["send", ""], "is not an event type"),
    (["send", "user.delete"], "Did you mean user.deleted?"),
    (["send", "User.Created"], "Did you mean user.created?"),
    (["send", "user.created", "--url", "localhost:8000"], "is not a URL"),
    (["send", "user.created", "--url", "ftp://localhost"], "is not a URL"),
    (["send", "user.created", "--url", "http://[::1"], "is not a URL"),
    (["send", "user.created", "--url", "http://localhost:99999"], "is not a URL"),
    (["send", "user.created", "--data", "event.json"], "contains an event of another type than user.created"),
    (["send", "user.updated", "--data", "event.json", "--user", "user_1"], "--data contains a whole event"),
    (["send", "user.updated", "--data", "deep.json"], "cannot be read as JSON"),
]


@pytest.mark.parametrize(("arguments", "sentence"), WRONG, ids=lambda value: ascii(value)[:60])
def test_wrong_input_is_status_2_and_a_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    (tmp_path / "event.json").write_text(json.dumps(make_event("user.updated", "user_1")))
    (tmp_path / "deep.json").write_text("[" * 100_000)
    done = run_here(*arguments, cwd=tmp_path, CLERK_WEBHOOK_SIGNING_SECRET=SECRET, PORT="1")
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr


@pytest.mark.parametrize(
    ("event_type", "intended"),
    [
        ("user.delete", "user.deleted"),
        ("user_deleted", "user.deleted"),
        ("users.created", "user.created"),
        ("user.banned", None),
        ("organizationDomain.verified", None),
        ("x", None),
        *((known, None) for known in EVENT_TYPES),
    ],
)
def test_only_a_misspelt_type_of_clerk_has_an_intended_type(event_type: str, intended: str | None) -> None:
    assert find_intended_type(event_type) == intended


def test_the_types_are_those_of_clerk_s_specification(shared: Path) -> None:
    specification = (shared / "webhooks-2025-04-15.yml").read_text()
    assert set(re.findall(r"operationId: (\w+\.\w+)", specification)) <= set(EVENT_TYPES)


def test_an_unknown_event_is_reported_in_a_sentence(environment: dict[str, Any]) -> None:
    done = run_here("events", "show", "msg_nowhere", **environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert "msg_nowhere: no such event" in done.stderr
    done = run_here("events", "show", "msg_nowhere", "--json", **environment)
    assert (done.returncode, done.stdout) == (1, "null\n")


def test_an_empty_list_is_reported_beside_the_output(environment: dict[str, Any]) -> None:
    done = run_here("events", "list", **environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no event is stored\n")
    done = run_here("events", "list", "--status", "dead", **environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no stored event has these properties\n")


@pytest.mark.parametrize("host", ["nowhere.invalid", "127.0.0.1"])
def test_an_unreachable_host_is_explained(tmp_path: Path, host: str) -> None:
    sentence = "its host name is unknown" if host == "nowhere.invalid" else "no server listens there"
    address = f"{host}:{reserve_port()}"
    done = run_here("users", "show", "user_1", cwd=tmp_path, DATABASE_URL=f"postgresql://u:p@{address}/db")
    assert done.returncode == 1
    assert f"The database of DATABASE_URL cannot be reached: {sentence}" in done.stderr
    done = run_here(
        "send", "user.created", "--url", f"http://{address}/x", cwd=tmp_path, CLERK_WEBHOOK_SIGNING_SECRET=SECRET
    )
    assert done.returncode == 1
    assert f"No response from http://{address}/x: {sentence}" in done.stderr


def test_a_database_that_does_not_exist_is_explained(tmp_path: Path, database: str) -> None:
    done = run_here("events", "list", cwd=tmp_path, DATABASE_URL=re.sub(r"/\w+\?", "/nowhere?", database))
    assert done.returncode == 1
    assert "the server has no database of this name" in done.stderr


def test_an_error_of_the_database_names_the_next_step(tmp_path: Path, empty_database: str) -> None:
    done = run_here("events", "list", cwd=tmp_path, DATABASE_URL=empty_database)
    assert done.returncode == 1
    assert "The database reports an error (undefined_table). Run `sync-service doctor`" in done.stderr
    done = run_here(
        "migrate", cwd=tmp_path, DATABASE_URL=f"{empty_database}&options=-cdefault_transaction_read_only%3Don"
    )
    assert "(read_only_sql_transaction)" in done.stderr


async def test_migrate_says_for_which_lock_it_waits(tmp_path: Path, empty_database: str, database: str) -> None:
    environ = {"DATABASE_URL": empty_database}
    holder = await asyncpg.connect(empty_database, server_settings={"application_name": "the holder"})
    async with holder.transaction():
        await holder.execute("select pg_advisory_xact_lock($1)", LOCK_KEY)
        with start_command("migrate", cwd=tmp_path, **environ) as migrate:
            await asyncio.to_thread(migrate.wait_for, "Waiting for another `sync-service migrate`.*the holder")
            migrate.popen.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(migrate.popen.wait, HANG_SECONDS) == 130
            assert "Traceback" not in migrate.log.read_text()
    assert run_here("migrate", cwd=tmp_path, **environ).stderr == ""
    async with holder.transaction():
        await holder.execute("lock table clerk_sync.migrations")
        with start_command("migrate", cwd=tmp_path, **environ) as migrate:
            await asyncio.to_thread(migrate.wait_for, r"Waiting for a lock on clerk_sync\.migrations.*the holder")
            await holder.execute("select 1")
    await holder.close()


async def test_send_keeps_the_time_of_the_creation(tmp_path: Path, world: World, db: asyncpg.Connection) -> None:
    environ = {"CLERK_WEBHOOK_SIGNING_SECRET": SECRET}
    url = str(world.client.base_url.join("/webhooks/clerk"))

    async def send(event_type: str) -> Any:
        done = await asyncio.to_thread(
            run_command, "send", event_type, "--user", "user_1", "--url", url, cwd=tmp_path, **environ
        )
        assert done.returncode == 0
        return await db.fetchrow("select created_at, updated_at from users")

    created = await send("user.created")
    updated = await send("user.updated")
    assert updated["created_at"] == created["created_at"] <= created["updated_at"] < updated["updated_at"]


async def test_a_dry_run_names_the_constraint(
    world: World, db: asyncpg.Connection, environment: dict[str, Any]
) -> None:
    await db.execute("alter table users add constraint refuses check (first_name <> 'New')")
    message_id = make_message_id()
    body = make_event("user.created", "user_1", T1, first_name="New", last_name=None, **make_email_fields("e"))
    await world.deliver(body, message_id)
    done = run_here("events", "replay", message_id, "--dry-run", **environment)
    assert done.returncode == 1
    assert "    reason: check_violation\n    table: users\n    constraint: refuses\n" in done.stdout
    done = run_here("events", "replay", message_id, "--dry-run", "--json", **environment)
    line = json.loads(done.stdout.splitlines()[0])
    assert (line["outcome"], line["changes"]) == ("would fail", {})
    assert line["failure"] == {"reason": "check_violation", "table": "users", "constraint": "refuses"}


async def test_a_dry_run_names_the_reason_of_an_unreadable_user(world: World, environment: dict[str, Any]) -> None:
    message_id = make_message_id()
    await world.deliver(make_event("user.updated", "user_1", T2, email_addresses="x"), message_id)
    await world.deliver(make_event("user.updated", ""), unnamed := make_message_id())
    done = run_here("events", "replay", message_id, unnamed, "--dry-run", **environment)
    assert f"{message_id}  user_1  would fail\n    reason: unreadable_user\n" in done.stdout
    assert f"{unnamed}  -  would fail\n    reason: unreadable_user\n" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["events", "list"],
        ["events", "show", "msg_1"],
        ["events", "replay", "msg_1"],
        ["events", "replay", "msg_1", "--dry-run"],
        ["users", "show", "user_1"],
        ["users", "restore", "user_1"],
        ["migrate"],
        ["migrate", "--check"],
        ["doctor"],
        ["mapping", "suggest"],
        ["docs"],
        ["docs", "login"],
        ["openapi"],
    ],
    ids=" ".join,
)
def test_every_command_that_prints_data_prints_json(environment: dict[str, Any], arguments: list[str]) -> None:
    done = run_here(*arguments, "--json", **environment)
    assert done.returncode in {0, 1}
    json.loads(done.stdout)


# --- signals and output -------------------------------------------------------------------------------------------


def test_ctrl_c_during_the_imports_is_status_130_without_a_traceback(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", COMMAND, "users", "show", "user_1"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    for line in process.stderr:
        if line.endswith(" sync_service.errors\n"):  # one of the first imports of many
            process.send_signal(signal.SIGINT)
            break
    rest = process.communicate(timeout=HANG_SECONDS)[1]
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert " sync_service.cli\n" not in rest  # the imports were not complete


def test_a_background_job_still_ignores_ctrl_c(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", f"trap '' INT; exec {COMMAND} docs"], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0


@pytest.mark.parametrize("pipes", ["stdout", "stderr"])
def test_dev_ends_when_its_pipe_closes(tmp_path: Path, pipes: str) -> None:
    reader, writer = os.pipe()
    with (tmp_path / "log").open("wb") as log:
        streams = {"stdout": log, "stderr": log} | {pipes: writer}
        process = subprocess.Popen(
            [COMMAND, "dev"],
            cwd=tmp_path,
            env={**os.environ, "PORT": str(reserve_port()), "LOG_FORMAT": "json"},
            **streams,  # type: ignore[call-overload]
        )
    os.close(writer)
    try:
        text = b""
        while (b"Show the user" if pipes == "stdout" else READY.encode()) not in text:
            chunk = os.read(reader, 65536)
            assert chunk, (tmp_path / "log").read_text()
            text += chunk
        os.close(reader)
        assert process.wait(HANG_SECONDS) in {0, 1}
    finally:
        process.kill()
        process.wait()
    assert b"Traceback" not in (tmp_path / "log").read_bytes()


def test_output_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [COMMAND, "docs", "login"], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (1, "sync-service: No space left on device\n")


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [COMMAND, "docs", "login"], cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / ".sync-service").write_text("not a folder")
    done = run_command("dev", cwd=tmp_path, PORT=str(reserve_port()))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert ".sync-service" in done.stderr


def test_a_terminal_without_unicode_gets_the_output(tmp_path: Path) -> None:
    done = run_command("docs", "login", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "\\u2026" in done.stdout


# --- lines to paste -----------------------------------------------------------------------------------------------


def test_the_commands_that_dev_prints_work_when_pasted(tmp_path: Path) -> None:
    path = ":".join(part for part in os.environ["PATH"].split(":") if part != str(COMMAND.parent))
    with start_command("dev", cwd=tmp_path, PATH=path, HOST="0.0.0.0") as dev:
        dev.wait_for(READY)
        send = re.search(r"Send an event: +(.*)", dev.output)
        show = re.search(r"Show the user: +(.*)", dev.output)
        assert send
        assert show
        assert show[1] == f"{COMMAND} users show user_1"
        for line in (send[1], show[1]):
            done = subprocess.run(
                ["sh", "-c", line], cwd=tmp_path, env={"PATH": path}, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
        assert "1@example.com" in done.stdout


@pytest.mark.parametrize(
    ("path", "program"), [("/bin", ".venv/bin/sync-service"), (str(COMMAND.parent), "sync-service")]
)
def test_a_program_is_named_by_its_path_unless_the_shell_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, program: str
) -> None:
    """Below the current folder the path is relative."""
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(COMMAND.parent)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", path)
    monkeypatch.setattr(sys, "argv", [".venv/bin/sync-service"])
    assert find_program() == program


def test_dev_states_where_the_secret_of_clerk_s_relay_comes_from() -> None:
    text = _format_welcome(read_settings({}), "127.0.0.1", SECRET, None)
    relay = text.partition("clerk webhooks listen")[2]
    assert "It prints a relay URL. Add that URL as an endpoint" in relay
    assert "Copy that endpoint's signing secret" in relay
    assert "prints a secret" not in text
