"""The command `doctor`: output, exit status, and findings about settings, server, schema, inbox and Clerk."""

import asyncio
import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from sync_service.doctor.introspection import Server
from sync_service.doctor.server import check_server
from sync_service.dsn import parse_dsn
from sync_service.postgres.migrate import SchemaState, migrate
from tests.clerk_stub import SECRET_KEY, ClerkStub
from tests.findings import apply_fix, run_doctor
from tests.processes import reserve_port, run_here
from tests.world import INSTANCE, PII_SENTINEL, SECRET

FIT = '[users]\nclerk_id = "clerk_user_id"\n[users.columns]\nemail = "primary_email"\n'


def run_doctor_command(tmp_path: Path, database: str, **environ: str) -> tuple[int, dict[str, Any]]:
    """Run the command; return its exit status and its JSON output."""
    given = {"DATABASE_URL": database, "CLERK_WEBHOOK_SIGNING_SECRET": SECRET} | environ
    done = run_here("doctor", "--json", cwd=tmp_path, **given)
    return done.returncode, json.loads(done.stdout)


def get_codes(told: dict[str, Any], kind: str = "wrong") -> set[str]:
    return {finding["code"] for finding in told["findings"] if finding["kind"] == kind}


async def test_a_migrated_database_has_no_errors(database: str, tmp_path: Path) -> None:
    status, told = run_doctor_command(tmp_path, database)
    assert (status, told["wrong"], told["warning"]) == (0, 0, 0)
    assert get_codes(told, "note") == {"database", "no_webhook_yet", "inbox", "no_secret_key", "no_token_key", "users"}
    shown = run_here("doctor", cwd=tmp_path, DATABASE_URL=database, CLERK_WEBHOOK_SIGNING_SECRET=SECRET)
    assert shown.returncode == 0
    assert "wrong: 0, warnings: 0, notes: 6" in shown.stdout


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("CLERK_WEBHOOK_SIGNING_SECRET", "SECRET_SENTINEL"),
        ("CLERK_SECRET_KEY", "pk_test_SECRET_SENTINEL"),
        ("DATABASE_URL", "mysql://SECRET_SENTINEL@host/db"),
        ("CLERK_WEBHOOK_SIGNING_SECRET", ""),
    ],
)
def test_a_wrong_setting_is_a_finding_with_exit_status_2(tmp_path: Path, name: str, text: str) -> None:
    """A setting in the wrong format is a finding, and the other checks still run (N2)."""
    status, told = run_doctor_command(tmp_path, f"postgresql://nobody@127.0.0.1:{reserve_port()}/none", **{name: text})
    assert status == 2
    (finding,) = [finding for finding in told["findings"] if finding["code"] == "bad_setting"]
    assert finding["what"].startswith(f"{name}: ")
    assert ("unreachable_database" in get_codes(told)) == (name != "DATABASE_URL")


def test_a_mapping_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "sync.toml").write_text("[users]\nclerkid = 'x'\n")
    status, told = run_doctor_command(tmp_path, f"postgresql://nobody@127.0.0.1:{reserve_port()}/none")
    assert status == 2
    assert told["findings"][0]["data"] == {"setting": "SYNC_CONFIG"}


def test_an_unreachable_database_is_reported_in_one_line(tmp_path: Path) -> None:
    """The exit status is 1, and one line names the cause (N2)."""
    environ = {
        "DATABASE_URL": f"postgresql://nobody@127.0.0.1:{reserve_port()}/none",
        "CLERK_WEBHOOK_SIGNING_SECRET": SECRET,
    }
    done = run_here("doctor", cwd=tmp_path, **environ)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "[unreachable_database]" in line]
    assert line.startswith("WRONG    The database of DATABASE_URL cannot be reached")


async def test_a_missing_unique_index_is_reported_with_its_sql(database: str, db: Any, tmp_path: Path) -> None:
    """After the printed SQL the doctor reports no error (N2)."""
    await db.execute("drop table users; create table users (id serial primary key, clerk_user_id text, email text)")
    (tmp_path / "sync.toml").write_text(FIT)
    status, told = run_doctor_command(tmp_path, database)
    assert (status, get_codes(told)) == (1, {"missing_unique_index"})
    for statement in told["findings"][0]["run"]:
        await db.execute(statement)
    assert run_doctor_command(tmp_path, database)[0] == 0


async def test_the_output_has_no_personal_data(database: str, db: Any, tmp_path: Path) -> None:
    """The doctor prints counts only; the fixture `output` finds no sentinel (I4)."""
    await db.execute("create table notes (user_id text)")
    for number in (1, 2):
        await db.execute(
            "insert into users (id, email, email_verified, banned, locked, public_metadata)"
            " values ($1, $2, true, false, false, '{}')",
            f"user_{PII_SENTINEL.replace('_', '')}{number}",
            f"{'aA'[number - 1]}.{PII_SENTINEL}@example.com",
        )
    await db.execute("insert into notes values ('user_gone'), ($1)", PII_SENTINEL)
    status, told = run_doctor_command(tmp_path, database)
    assert status == 0
    assert {"duplicate_addresses", "unseen_clerk_ids"} <= get_codes(told, "note")
    assert "orphans" in get_codes(told, "warning")


# --- server and schema --------------------------------------------------------------------------------------------


async def test_a_database_without_the_schema_is_reported(empty_database: str) -> None:
    found = await run_doctor(empty_database)
    assert found.codes("wrong") == {"never_migrated", "missing_table"}
    assert found.one("never_migrated").run == ("sync-service migrate",)
    assert found.one("missing_table").run == ("sync-service migrate",)


async def test_a_schema_ahead_or_behind_is_reported(database: str, db: Any) -> None:
    removed = await db.fetch("delete from clerk_sync.migrations where version > 1 returning version, name, checksum")
    assert (await run_doctor(database)).codes("wrong") == {"schema_behind"}
    sql = "insert into clerk_sync.migrations (version, name, checksum) values ($1, $2, $3)"
    await db.executemany(sql, [tuple(row) for row in removed])
    await db.execute("insert into clerk_sync.migrations (version, name, checksum) values (9998, 'x', 'x')")
    assert not (await run_doctor(database)).codes("wrong")
    await db.execute(
        "insert into clerk_sync.migrations (version, name, checksum) values (9999, 'x_requires_9999', 'x')"
    )
    ahead = (await run_doctor(database)).one("schema_ahead")
    assert (ahead.run, ahead.do) == ((), ("deploy the newer sync-service",))


async def test_missing_privileges_are_reported_with_their_grants(database: str, db: Any) -> None:
    """Each printed GRANT fixes its finding, for the app's table and for the service's own tables (J5)."""
    name = "nobody_" + str(await db.fetchval("select oid from pg_database where datname = current_database()"))
    await db.execute(f"create role {name} login")
    try:
        theirs = database.replace("postgres@", f"{name}@")
        found = await run_doctor(theirs)
        assert found.codes("wrong") == {"no_privilege_ours", "no_privilege"}
        for code in found.codes("wrong"):
            await apply_fix(db, found.one(code))
        assert not (await run_doctor(theirs)).codes("wrong")

        await db.execute("alter table users enable row level security")
        hidden = await run_doctor(theirs)
        assert hidden.codes("wrong") == {"row_security"}
        await apply_fix(db, hidden.one("row_security"))
        assert not (await run_doctor(theirs)).codes("wrong")
    finally:
        await db.execute(f"drop owned by {name}; drop role {name}")


async def test_a_missing_privilege_for_the_schema_is_reported_with_its_grant(empty_database: str) -> None:
    admin = await asyncpg.connect(empty_database)
    name = "maker_" + str(await admin.fetchval("select oid from pg_database where datname = current_database()"))
    await admin.execute(f"create role {name} login")
    try:
        theirs = empty_database.replace("postgres@", f"{name}@")
        await apply_fix(admin, (await run_doctor(theirs)).one("may_not_migrate"))
        connection = await asyncpg.connect(theirs)
        await migrate(connection)
        await connection.close()
    finally:
        await admin.execute(f"drop owned by {name}; drop role {name}")
        await admin.close()


async def test_a_read_only_database_is_reported(database: str, db: Any) -> None:
    name = parse_dsn(database).url.partition("/test_")[2].partition("?")[0]
    await db.execute(f"alter database test_{name} set default_transaction_read_only = on")
    assert "read_only_database" in (await run_doctor(database)).codes("wrong")


def test_an_old_server_is_an_error() -> None:
    server = Server(
        version=120018,
        version_text="12.18",
        read_only=False,
        role="app",
        database="app",
        can_create_schema=True,
        pooled=False,
        unwritable_tables=(),
    )
    found = list(check_server(server, parse_dsn("postgresql://app@host/app"), SchemaState(1, 1)))
    assert [(finding.code, finding.kind) for finding in found] == [("old_postgres", "wrong"), ("database", "note")]


# --- the inbox ----------------------------------------------------------------------------------------------------


async def set_installed(db: Any, days: int) -> None:
    await db.execute("update clerk_sync.migrations set applied_at = now() - $1 * interval '1 day'", days)


async def insert_event(db: Any, days: float, status: str = "applied") -> None:
    await db.execute(
        "insert into clerk_sync.events (id, type, status, received_at, finished_at, next_attempt_at) values"
        " ($1, 'user.updated', $2, now() - $3 * interval '1 day',"
        " case when $2 = 'applied' then now() end, case when $2 = 'failed' then now() end)",
        f"msg_{status}_{days}",
        status,
        float(days),
    )


async def insert_identity(db: Any, source: str) -> None:
    await db.execute(
        "insert into clerk_sync.identities (clerk_id, version, tiebreak, created_by) values ($1, 1, '', $1)", source
    )


async def test_no_webhook_at_all_is_an_error_after_a_week(database: str, db: Any, tmp_path: Path) -> None:
    """The exit status is 1, and one line names the cause (N2)."""
    await set_installed(db, 6)
    assert "no_webhook_yet" in (await run_doctor(database)).codes("note")
    await set_installed(db, 8)
    status, told = run_doctor_command(tmp_path, database)
    assert (status, get_codes(told)) == (1, {"webhook_silence"})
    assert told["findings"][0]["what"] == "no webhook was ever accepted since the installation 8 days ago"


async def test_no_further_webhook_is_an_error_after_a_week(database: str, db: Any) -> None:
    """Seven days after the last accepted webhook the silence is an error (N2)."""
    await set_installed(db, 100)
    await insert_event(db, 6.5)
    assert not (await run_doctor(database)).codes("wrong")
    await db.execute("update clerk_sync.events set received_at = received_at - interval '1 day'")
    silence = (await run_doctor(database)).one("webhook_silence")
    assert silence.what == "no webhook was accepted for 7 days"


async def test_no_webhook_despite_logins_is_an_error_after_a_day(database: str, db: Any) -> None:
    """LoginService that create users without a webhook shorten the limit to one day (N3)."""
    await set_installed(db, 100)
    await insert_event(db, 1.5)
    await insert_identity(db, "webhook")
    assert not (await run_doctor(database)).codes("wrong")
    await insert_identity(db, "login")
    assert (await run_doctor(database)).one("webhook_silence").data["logins"] == 1


async def test_dead_events_are_wrong_and_parked_ones_a_warning(database: str, db: Any) -> None:
    await insert_event(db, 0.1)
    await insert_event(db, 0.2, "failed")
    found = await run_doctor(database)
    assert (found.codes("wrong"), found.codes("warning")) == (set(), {"failed_events"})
    assert found.one("failed_events").data["events"] == 1
    await insert_event(db, 0.3, "dead")
    dead = (await run_doctor(database)).one("dead_events")
    assert (dead.kind, dead.run[0]) == ("wrong", "sync-service events list --status dead")


async def test_pending_emails_are_counted(database: str, db: Any) -> None:
    await insert_identity(db, "webhook")
    await db.execute("update clerk_sync.identities set email_pending = true")
    assert (await run_doctor(database)).one("addresses_wanted").data == {"users": 1}


# --- Clerk --------------------------------------------------------------------------------------------------------


async def test_a_key_of_another_instance_is_wrong(database: str, db: Any, tmp_path: Path, clerk: ClerkStub) -> None:
    """The secret key is compared with the configured instance, or with the instance of accepted events (N2)."""
    clerk.kids = {"ins_other": "clerk"}
    environ = {"CLERK_SECRET_KEY": SECRET_KEY, "CLERK_API_URL": clerk.url}
    status, told = await asyncio.to_thread(
        run_doctor_command, tmp_path, database, **environ, CLERK_INSTANCE_ID=INSTANCE
    )
    assert (status, get_codes(told)) == (1, {"wrong_api_key_instance"})
    assert told["findings"][0]["data"] == {"key": ["ins_other"], "expected": INSTANCE}
    await db.execute("insert into clerk_sync.instance (id) values ($1)", INSTANCE)
    assert (await asyncio.to_thread(run_doctor_command, tmp_path, database, **environ))[0] == 1
    clerk.kids = {INSTANCE: "clerk"}
    assert (await asyncio.to_thread(run_doctor_command, tmp_path, database, **environ))[0] == 0


async def test_a_setting_that_names_another_instance_than_the_events_is_wrong(database: str, db: Any) -> None:
    await db.execute("insert into clerk_sync.instance (id) values ($1)", INSTANCE)
    found = await run_doctor(database, clerk_instance_id="ins_other")
    assert found.one("wrong_instance").data == {"setting": "ins_other", "database": INSTANCE}


async def test_a_refused_key_is_an_error_and_an_unreachable_clerk_a_note(database: str, clerk: ClerkStub) -> None:
    refused = await run_doctor(database, clerk_secret_key="sk_test_rolled", clerk_api_url=clerk.url)
    assert refused.codes("wrong") == {"api_key_refused"}
    away = await run_doctor(database, clerk_secret_key=SECRET_KEY, clerk_api_url=f"http://127.0.0.1:{reserve_port()}")
    assert not away.codes("wrong")
    assert away.one("clerk_unreachable").data["fault"] == "ConnectError"


async def test_keys_of_two_instances_are_an_error(database: str) -> None:
    publishable = "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k"  # clerk.example.com$
    port = reserve_port()
    found = await run_doctor(
        database,
        clerk_secret_key=SECRET_KEY,
        clerk_api_url=f"http://127.0.0.1:{port}",
        clerk_publishable_key=publishable,
        clerk_issuer=f"http://127.0.0.1:{port}",
    )
    assert found.codes("wrong") == {"keys_of_two_instances"}
    assert found.one("issuer_differs").data == {"setting": "CLERK_ISSUER", "host": "clerk.example.com"}
    assert "jwks_unreachable" in found.codes("note")


async def test_session_tokens_of_another_instance_are_wrong(database: str, clerk: ClerkStub) -> None:
    clerk.kids = {"ins_other": "clerk"}
    found = await run_doctor(
        database,
        clerk_publishable_key="pk_test_Y2xlcmsuZXhhbXBsZS5jb20k",
        clerk_jwks_url=f"{clerk.url}/.well-known/jwks.json",
        clerk_instance_id=INSTANCE,
    )
    assert found.codes("wrong") == {"wrong_publishable_key_instance"}


async def test_ids_of_another_instance_are_recognised(database: str, db: Any, clerk: ClerkStub) -> None:
    """Unknown Clerk IDs are counted; with a secret key, the doctor asks Clerk about them (H4)."""
    await db.execute(
        "insert into users (id, email_verified, banned, locked, public_metadata)"
        " select 'user_' || n, false, false, false, '{}' from generate_series(1, 5) as n"
    )
    await db.execute(
        "insert into clerk_sync.identities (clerk_id, version, tiebreak, created_by)"
        " values ('user_1', 1, '', 'webhook')"
    )
    unseen = (await run_doctor(database)).one("unseen_clerk_ids")
    assert (unseen.kind, unseen.data["rows"]) == ("note", 4)
    for known in ("user_1", "user_2"):
        clerk.add_user(known)
    keys: dict[str, Any] = {"clerk_secret_key": SECRET_KEY, "clerk_api_url": clerk.url}
    foreign = (await run_doctor(database, **keys)).one("foreign_clerk_ids")
    assert foreign.data == {"rows": 4, "asked": 4, "unknown_to_clerk": 3}
    for number in range(9):
        clerk.add_user(f"user_{number}")
    assert "unseen_clerk_ids" in (await run_doctor(database, **keys)).codes("note")
    # A key of another instance finds no user at all, so the result is ignored.
    clerk.kids, clerk.users = {"ins_other": "clerk"}, {}
    assert "unseen_clerk_ids" in (await run_doctor(database, **keys, clerk_instance_id=INSTANCE)).codes("note")
    assert await db.fetchval("select count(*) from users") == 5
