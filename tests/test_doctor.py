"""`doctor` as a command: what it prints, how it ends, what it says of settings, server and inbox."""

import asyncio
import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from sync_service.doctor.introspection import Server
from sync_service.doctor.server import check_server
from sync_service.dsn import clean_dsn
from sync_service.postgres.schema import SchemaState, migrate
from tests.clerk_stub import SECRET_KEY, ClerkStub
from tests.examined import cured, examined
from tests.processes import free_port, run
from tests.world import INSTANCE, PII_SENTINEL, SECRET

FIT = '[users]\nclerk_id = "clerk_user_id"\n[users.columns]\nemail = "primary_email"\n'


def doctor(tmp_path: Path, database: str, **environ: str) -> tuple[int, dict[str, Any]]:
    """Run the command; return its exit status and what it printed for programs."""
    given = {"DATABASE_URL": database, "CLERK_WEBHOOK_SIGNING_SECRET": SECRET} | environ
    done = run("doctor", "--json", cwd=tmp_path, **given)
    return done.returncode, json.loads(done.stdout)


def codes(told: dict[str, Any], kind: str = "wrong") -> set[str]:
    return {finding["code"] for finding in told["findings"] if finding["kind"] == kind}


async def test_nothing_is_wrong_with_what_migrate_made(database: str, tmp_path: Path) -> None:
    status, told = doctor(tmp_path, database)
    assert (status, told["wrong"], told["warning"]) == (0, 0, 0)
    assert codes(told, "note") == {"database", "no_webhook_yet", "inbox", "no_secret_key", "users"}
    shown = run("doctor", cwd=tmp_path, DATABASE_URL=database, CLERK_WEBHOOK_SIGNING_SECRET=SECRET)
    assert shown.returncode == 0
    assert "wrong: 0, warnings: 0, notes: 5" in shown.stdout


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
    """N2: a secret of the wrong format; the rest is looked at all the same."""
    status, told = doctor(tmp_path, f"postgresql://nobody@127.0.0.1:{free_port()}/none", **{name: text})
    assert status == 2
    (finding,) = [finding for finding in told["findings"] if finding["code"] == "bad_setting"]
    assert finding["what"].startswith(f"{name}: ")
    assert ("unreachable_database" in codes(told)) == (name != "DATABASE_URL")


def test_a_mapping_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "sync.toml").write_text("[users]\nclerkid = 'x'\n")
    status, told = doctor(tmp_path, f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    assert status == 2
    assert told["findings"][0]["data"] == {"setting": "SYNC_CONFIG"}


def test_a_database_that_cannot_be_reached_is_said_in_one_line(tmp_path: Path) -> None:
    """N2."""
    environ = {
        "DATABASE_URL": f"postgresql://nobody@127.0.0.1:{free_port()}/none",
        "CLERK_WEBHOOK_SIGNING_SECRET": SECRET,
    }
    done = run("doctor", cwd=tmp_path, **environ)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "[unreachable_database]" in line]
    assert line.startswith("WRONG    The database of DATABASE_URL cannot be reached")


async def test_a_missing_unique_index_is_said_with_what_makes_it(database: str, db: Any, tmp_path: Path) -> None:
    """N2: nothing is wrong after what was printed was run."""
    await db.execute("drop table users; create table users (id serial primary key, clerk_user_id text, email text)")
    (tmp_path / "sync.toml").write_text(FIT)
    status, told = doctor(tmp_path, database)
    assert (status, codes(told)) == (1, {"missing_unique_index"})
    for statement in told["findings"][0]["run"]:
        await db.execute(statement)
    assert doctor(tmp_path, database)[0] == 0


async def test_no_person_is_named(database: str, db: Any, tmp_path: Path) -> None:
    """I4: the counts are there, the sentinel that the fixture looks for is not."""
    await db.execute("create table notes (user_id text)")
    for number in (1, 2):
        await db.execute(
            "insert into users (id, email, email_verified, banned, locked, public_metadata)"
            " values ($1, $2, true, false, false, '{}')",
            f"user_{PII_SENTINEL.replace('_', '')}{number}",
            f"{'aA'[number - 1]}.{PII_SENTINEL}@example.com",
        )
    await db.execute("insert into notes values ('user_gone'), ($1)", PII_SENTINEL)
    status, told = doctor(tmp_path, database)
    assert status == 0
    assert {"duplicate_addresses", "unseen_clerk_ids"} <= codes(told, "note")
    assert "orphans" in codes(told, "warning")


# --- server and schema --------------------------------------------------------------------------------------------


async def test_a_database_before_migrate_is_told_to_migrate(empty_database: str) -> None:
    found = await examined(empty_database)
    assert found.codes("wrong") == {"never_migrated", "missing_table"}
    assert found.one("never_migrated").run == ("sync-service migrate",)
    assert found.one("missing_table").run == ("sync-service migrate",)


async def test_a_schema_ahead_or_behind_is_said(database: str, db: Any) -> None:
    await db.execute("delete from clerk_sync.migrations where version > 1")
    assert (await examined(database)).codes("wrong") == {"schema_behind"}
    await db.execute("insert into clerk_sync.migrations (version, name, checksum) values (9999, 'x', 'x')")
    ahead = (await examined(database)).one("schema_ahead")
    assert (ahead.run, ahead.do) == ((), ("deploy the newer sync-service",))


async def test_a_role_without_rights_is_told_what_to_grant(database: str, db: Any) -> None:
    """J5: each grant cures what it says; so for the tables of the app and for ours."""
    name = "nobody_" + str(await db.fetchval("select oid from pg_database where datname = current_database()"))
    await db.execute(f"create role {name} login")
    try:
        theirs = database.replace("postgres@", f"{name}@")
        found = await examined(theirs)
        assert found.codes("wrong") == {"no_privilege_ours", "no_privilege"}
        for code in found.codes("wrong"):
            await cured(db, found.one(code))
        assert not (await examined(theirs)).codes("wrong")

        await db.execute("alter table users enable row level security")
        hidden = await examined(theirs)
        assert hidden.codes("wrong") == {"row_security"}
        await cured(db, hidden.one("row_security"))
        assert not (await examined(theirs)).codes("wrong")
    finally:
        await db.execute(f"drop owned by {name}; drop role {name}")


async def test_a_role_that_may_not_make_the_schema_is_told_what_to_grant(empty_database: str) -> None:
    admin = await asyncpg.connect(empty_database)
    name = "maker_" + str(await admin.fetchval("select oid from pg_database where datname = current_database()"))
    await admin.execute(f"create role {name} login")
    try:
        theirs = empty_database.replace("postgres@", f"{name}@")
        await cured(admin, (await examined(theirs)).one("may_not_migrate"))
        connection = await asyncpg.connect(theirs)
        await migrate(connection)
        await connection.close()
    finally:
        await admin.execute(f"drop owned by {name}; drop role {name}")
        await admin.close()


async def test_a_database_that_takes_no_writes_is_said(database: str, db: Any) -> None:
    name = clean_dsn(database).url.partition("/test_")[2].partition("?")[0]
    await db.execute(f"alter database test_{name} set default_transaction_read_only = on")
    assert "read_only_database" in (await examined(database)).codes("wrong")


def test_a_server_of_long_ago_is_wrong() -> None:
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
    found = list(check_server(server, clean_dsn("postgresql://app@host/app"), SchemaState(1, 1)))
    assert [(finding.code, finding.kind) for finding in found] == [("old_postgres", "wrong"), ("database", "note")]


# --- the inbox ----------------------------------------------------------------------------------------------------


async def installed(db: Any, days: int) -> None:
    await db.execute("update clerk_sync.migrations set applied_at = now() - $1 * interval '1 day'", days)


async def heard(db: Any, days: float, status: str = "applied") -> None:
    await db.execute(
        "insert into clerk_sync.events (id, type, status, received_at, finished_at, next_attempt_at) values"
        " ($1, 'user.updated', $2, now() - $3 * interval '1 day',"
        " case when $2 = 'applied' then now() end, case when $2 = 'failed' then now() end)",
        f"msg_{status}_{days}",
        status,
        float(days),
    )


async def known(db: Any, source: str) -> None:
    await db.execute(
        "insert into clerk_sync.identities (clerk_id, version, tie, created_by) values ($1, 1, '', $1)", source
    )


async def test_silence_from_the_beginning_is_wrong_after_a_week(database: str, db: Any, tmp_path: Path) -> None:
    """N2: with exit status 1 and one line that names the cause."""
    await installed(db, 6)
    assert "no_webhook_yet" in (await examined(database)).codes("note")
    await installed(db, 8)
    status, told = doctor(tmp_path, database)
    assert (status, codes(told)) == (1, {"webhook_silence"})
    assert told["findings"][0]["what"] == "no webhook was ever accepted since the installation 8 days ago"


async def test_silence_after_the_last_event_is_wrong_after_a_week(database: str, db: Any) -> None:
    """N2."""
    await installed(db, 100)
    await heard(db, 6.5)
    assert not (await examined(database)).codes("wrong")
    await db.execute("update clerk_sync.events set received_at = received_at - interval '1 day'")
    silence = (await examined(database)).one("webhook_silence")
    assert silence.what == "no webhook was accepted for 7 days"


async def test_silence_while_users_log_in_is_wrong_after_a_day(database: str, db: Any) -> None:
    """N3's case, as the doctor sees it."""
    await installed(db, 100)
    await heard(db, 1.5)
    await known(db, "webhook")
    assert not (await examined(database)).codes("wrong")
    await known(db, "login")
    assert (await examined(database)).one("webhook_silence").data["logins"] == 1


async def test_dead_events_are_wrong_and_parked_ones_a_warning(database: str, db: Any) -> None:
    await heard(db, 0.1)
    await heard(db, 0.2, "failed")
    found = await examined(database)
    assert (found.codes("wrong"), found.codes("warning")) == (set(), {"failed_events"})
    assert found.one("failed_events").data["events"] == 1
    await heard(db, 0.3, "dead")
    dead = (await examined(database)).one("dead_events")
    assert (dead.kind, dead.run[0]) == ("wrong", "sync-service events list --status dead")


async def test_addresses_that_are_wanted_are_counted(database: str, db: Any) -> None:
    await known(db, "webhook")
    await db.execute("update clerk_sync.identities set address_wanted = true")
    assert (await examined(database)).one("addresses_wanted").data == {"users": 1}


# --- Clerk --------------------------------------------------------------------------------------------------------


async def test_a_key_of_another_instance_is_wrong(database: str, db: Any, tmp_path: Path, clerk: ClerkStub) -> None:
    """N2: with the instance from the setting, or from the events that were accepted."""
    clerk.kids = {"ins_other": "clerk"}
    environ = {"CLERK_SECRET_KEY": SECRET_KEY, "CLERK_API_URL": clerk.address}
    status, told = await asyncio.to_thread(doctor, tmp_path, database, **environ, CLERK_INSTANCE_ID=INSTANCE)
    assert (status, codes(told)) == (1, {"wrong_api_key_instance"})
    assert told["findings"][0]["data"] == {"key": ["ins_other"], "expected": INSTANCE}
    await db.execute("insert into clerk_sync.instance (id) values ($1)", INSTANCE)
    assert (await asyncio.to_thread(doctor, tmp_path, database, **environ))[0] == 1
    clerk.kids = {INSTANCE: "clerk"}
    assert (await asyncio.to_thread(doctor, tmp_path, database, **environ))[0] == 0


async def test_a_setting_that_names_another_instance_than_the_events_is_wrong(database: str, db: Any) -> None:
    await db.execute("insert into clerk_sync.instance (id) values ($1)", INSTANCE)
    found = await examined(database, clerk_instance_id="ins_other")
    assert found.one("wrong_instance").data == {"setting": "ins_other", "database": INSTANCE}


async def test_a_key_that_clerk_refuses_is_wrong_and_one_that_cannot_be_asked_about_a_note(
    database: str, clerk: ClerkStub
) -> None:
    refused = await examined(database, clerk_secret_key="sk_test_rolled", clerk_api_url=clerk.address)
    assert refused.codes("wrong") == {"api_key_refused"}
    away = await examined(database, clerk_secret_key=SECRET_KEY, clerk_api_url=f"http://127.0.0.1:{free_port()}")
    assert not away.codes("wrong")
    assert away.one("clerk_unreachable").data["fault"] == "ConnectError"


async def test_keys_of_a_development_and_a_production_instance_do_not_go_together(database: str) -> None:
    publishable = "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k"  # clerk.example.com$
    port = free_port()
    found = await examined(
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
    found = await examined(
        database,
        clerk_publishable_key="pk_test_Y2xlcmsuZXhhbXBsZS5jb20k",
        clerk_jwks_url=f"{clerk.address}/.well-known/jwks.json",
        clerk_instance_id=INSTANCE,
    )
    assert found.codes("wrong") == {"wrong_publishable_key_instance"}


async def test_ids_of_another_instance_are_recognised(database: str, db: Any, clerk: ClerkStub) -> None:
    """H4: counted as never seen; with a key, Clerk tells which of them are not its own."""
    await db.execute(
        "insert into users (id, email_verified, banned, locked, public_metadata)"
        " select 'user_' || n, false, false, false, '{}' from generate_series(1, 5) as n"
    )
    await db.execute(
        "insert into clerk_sync.identities (clerk_id, version, tie, created_by) values ('user_1', 1, '', 'webhook')"
    )
    unseen = (await examined(database)).one("unseen_clerk_ids")
    assert (unseen.kind, unseen.data["rows"]) == ("note", 4)
    for known in ("user_1", "user_2"):
        clerk.knows(known)
    keys: dict[str, Any] = {"clerk_secret_key": SECRET_KEY, "clerk_api_url": clerk.address}
    foreign = (await examined(database, **keys)).one("foreign_clerk_ids")
    assert foreign.data == {"rows": 4, "asked": 4, "unknown_to_clerk": 3}
    for number in range(9):
        clerk.knows(f"user_{number}")
    assert "unseen_clerk_ids" in (await examined(database, **keys)).codes("note")
    # A key of another instance knows nobody, which says nothing.
    clerk.kids, clerk.users = {"ins_other": "clerk"}, {}
    assert "unseen_clerk_ids" in (await examined(database, **keys, clerk_instance_id=INSTANCE)).codes("note")
    assert await db.fetchval("select count(*) from users") == 5
