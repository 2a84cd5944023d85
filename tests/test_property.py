"""Property test: after any history, through the real service and database, the table equals Clerk's state.

A few users with timelines of their own stand for Clerk; at any time no two of them have the same email. Their events
are delivered in any order, more than once, while the table refuses some of them. At each pause all events are delivered
and retried, and the table must equal the fold of the timelines.

HISTORIES sets the number of histories, for example 2,000 at night. A failure prints the steps that lead to it, and
--hypothesis-seed repeats a run.
"""

import asyncio
import contextlib
import os
import random
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import asyncpg
import pytest
import uvloop
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from sync_service.clerk.change import Snapshot
from sync_service.clerk.events import parse_event
from sync_service.dsn import parse_dsn
from sync_service.mapping import deletion_queries, queries
from sync_service.mapping.presets import DEFAULT
from sync_service.postgres.pool import open_database
from sync_service.postgres.sql import read_sql
from sync_service.settings import Settings
from sync_service.store.access import Store
from sync_service.store.event_filter import Filter
from sync_service.store.events import iter_pages
from sync_service.sync.apply import Applier
from sync_service.sync.maintenance import MaintenanceWorker
from tests.world import SECRET, T0, World, encode_body, make_email_fields, make_event, make_message_id, run_world

HISTORIES = int(os.environ.get("HISTORIES", "30"))

T = TypeVar("T")
SLOTS = st.integers(0, 3)
NAMES = st.sampled_from(["Ada", "Grace", "Edsger", "Bad"])


class Rig:
    """The service and its database for all histories of a test; each history has users of its own."""

    def __init__(self, database: str) -> None:
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.database = database
        self.history = 0
        self.stack = contextlib.AsyncExitStack()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    async def start(self) -> None:
        self.db = await asyncpg.connect(self.database)
        configured = Settings(database=parse_dsn(self.database), clerk_webhook_signing_secrets=(SECRET,))
        self.world: World = await self.stack.enter_async_context(run_world(configured, self.db))
        self.pool = await open_database(parse_dsn(self.database))
        self.applier = Applier(Store(self.pool, DEFAULT), source="replay", max_attempts=1000)
        self.retry = MaintenanceWorker(self.applier, configured.sync_event_retention, asyncio.Event())

    async def stop(self) -> None:
        await self.pool.aclose()
        await self.stack.aclose()
        await self.db.close()


RIG: list[Rig] = []


class Histories(RuleBasedStateMachine):
    """The steps that Clerk, Svix, the app and an operator may take."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = RIG[0]
        self.rig.history += 1
        self.prefix = f"user_{self.rig.history}_"
        self.clock = T0
        self.users: dict[str, dict[str, Any]] = {}
        self.slots: list[str | None] = [None] * 4
        self.created_users = 0
        self.outstanding: list[tuple[str, bytes]] = []
        self.delivered: list[tuple[str, bytes]] = []
        self.truth: dict[str, Snapshot | None] = {}
        self.refusing = False

    def emit_event(self, event_type: str, user_id: str, **data: Any) -> None:
        """Create an event of Clerk, which Svix delivers at a later step."""
        body = encode_body(make_event(event_type, user_id, self.clock, **data))
        self.outstanding.append((make_message_id(), body))
        change = parse_event("", body).change
        if not isinstance(change, Snapshot):
            self.truth[user_id] = None
        else:
            known = self.truth.get(user_id, change)
            if known is not None and known.version <= change.version:
                self.truth[user_id] = change

    def emit_user(self, user_id: str, event_type: str = "user.updated") -> None:
        user = self.users[user_id]
        email = make_email_fields(f"{self.prefix}{user['email']}") if user["email"] is not None else {}
        self.emit_event(event_type, user_id, first_name=user["name"], **email)

    def pick_free_email(self, wanted: int) -> int | None:
        return None if any(user["email"] == wanted for user in self.users.values()) else wanted

    @rule(slot=SLOTS, name=NAMES, email=SLOTS)
    def sign_up(self, slot: int, name: str, email: int) -> None:
        if self.slots[slot] is None:
            self.clock += 10
            self.created_users += 1
            user_id = self.slots[slot] = f"{self.prefix}{self.created_users}"
            self.users[user_id] = {"name": name, "email": self.pick_free_email(email)}
            self.emit_user(user_id, "user.created")

    @rule(slot=SLOTS, name=NAMES, ticks=st.sampled_from([0, 0, 1, 10]))
    def rename(self, slot: int, name: str, ticks: int) -> None:
        """With no tick between, two versions have the same timestamp."""
        user_id = self.slots[slot]
        if user_id:
            self.clock += ticks
            self.users[user_id]["name"] = name
            self.emit_user(user_id)

    @rule(slot=SLOTS, email=SLOTS)
    def change_email(self, slot: int, email: int) -> None:
        user_id = self.slots[slot]
        if user_id:
            self.clock += 10
            self.users[user_id]["email"] = self.pick_free_email(email)
            self.emit_user(user_id)
            self.clock += 10

    @rule(one=SLOTS, other=SLOTS)
    def swap_emails(self, one: int, other: int) -> None:
        first, second = self.slots[one], self.slots[other]
        if first and second and first != second:
            a, b = self.users[first]["email"], self.users[second]["email"]
            for user_id, email in ((first, None), (second, a), (first, b)):
                self.clock += 10
                self.users[user_id]["email"] = email
                self.emit_user(user_id)
            self.clock += 10

    @rule(slot=SLOTS)
    def delete(self, slot: int) -> None:
        user_id = self.slots[slot]
        if user_id:
            self.clock += 10
            self.slots[slot] = None
            del self.users[user_id]
            self.emit_event("user.deleted", user_id)

    @precondition(lambda self: self.outstanding)
    @rule(pick=st.integers(0, 50), times=st.integers(1, 2))
    def svix_delivers(self, pick: int, times: int) -> None:
        sent = self.outstanding.pop(pick % len(self.outstanding))
        self.delivered.append(sent)
        self.deliver([sent] * times)

    @precondition(lambda self: self.delivered)
    @rule(pick=st.integers(0, 50))
    def svix_delivers_again(self, pick: int) -> None:
        self.deliver([self.delivered[pick % len(self.delivered)]])

    @precondition(lambda self: len(self.outstanding) > 2)
    @rule()
    def svix_delivers_all_concurrently(self) -> None:
        messages, self.outstanding = self.outstanding, []
        self.delivered += messages
        self.deliver(messages)

    @rule()
    def table_refuses_some_rows(self) -> None:
        if not self.refusing:
            self.refusing = True
            self.sql("alter table users add constraint refuses check (first_name <> 'Bad') not valid")

    @rule()
    def repair_table(self) -> None:
        if self.refusing:
            self.refusing = False
            self.sql("alter table users drop constraint refuses")

    @rule(order=st.randoms(use_true_random=False))
    def operator_replays_all(self, order: random.Random) -> None:
        self.rig.run(self._replay(order))

    @rule()
    def pause(self) -> None:
        """Deliver and retry all events, then compare the table with Clerk's state."""
        self.repair_table()
        rest, self.outstanding = self.outstanding, []
        self.delivered += rest
        for sent in rest:
            self.deliver([sent])
        self.rig.run(self._until_quiet())
        rows = self.rig.run(self._read_rows())
        expected = {
            user_id: (snapshot.user.first_name, DEFAULT.build_row(snapshot)["email"])
            for user_id, snapshot in self.truth.items()
            if snapshot is not None
        }
        assert rows == expected

    @invariant()
    def check_deleted_users_and_inbox(self) -> None:
        """A deleted user has no row, and every delivered message is in the inbox (I2, I3)."""
        rows_of_deleted, stored = self.rig.run(self._count_rows_of_deleted_and_stored())
        assert rows_of_deleted == 0
        assert stored == len({message_id for message_id, _ in self.delivered})

    def teardown(self) -> None:
        self.pause()

    def deliver(self, messages: list[tuple[str, bytes]]) -> None:
        async def deliver_all() -> list[int]:
            responses = await asyncio.gather(
                *(self.rig.world.deliver(body, message_id) for message_id, body in messages)
            )
            return [response.status_code for response in responses]

        assert set(self.rig.run(deliver_all())) <= {200, 202}

    def sql(self, statement: str) -> None:
        self.rig.run(self.rig.db.execute(statement))

    async def _replay(self, order: random.Random) -> None:
        pages = iter_pages(self.rig.applier.store.database, Filter())
        stored = [each async for _, page in pages for each in page]
        mine = [each for each in stored if (each.clerk_id or "").startswith(self.prefix)]
        order.shuffle(mine)
        await self.rig.applier.apply_again(mine)

    async def _until_quiet(self) -> None:
        for _ in range(20):
            due = "update clerk_sync.events set next_attempt_at = now() where status = 'failed' and clerk_id like $1"
            await self.rig.db.execute(due, f"{self.prefix}%")
            await self.rig.retry.run_once()
            left = "select count(*) from clerk_sync.events where status in ('failed', 'dead') and clerk_id like $1"
            if not await self.rig.db.fetchval(left, f"{self.prefix}%"):
                break

    async def _read_rows(self) -> dict[str, tuple[str, str | None]]:
        rows = await self.rig.db.fetch("select id, first_name, email from users where id like $1", f"{self.prefix}%")
        return {row["id"]: (row["first_name"], row["email"]) for row in rows}

    async def _count_rows_of_deleted_and_stored(self) -> tuple[int, int]:
        rows_of_deleted = (
            "select count(*) from users join clerk_sync.identities on id = clerk_id where deleted_at is not null"
        )
        stored = "select count(*) from clerk_sync.events where clerk_id like $1 and id like 'msg%'"
        return await self.rig.db.fetchval(rows_of_deleted), await self.rig.db.fetchval(stored, f"{self.prefix}%")


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    made = Rig(database)
    made.run(made.start())
    RIG[:] = [made]
    yield made
    made.run(made.stop())
    made.runner.close()
    RIG.clear()


def _settings(histories: int, *phases: Phase) -> settings:
    return settings(
        max_examples=histories,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=phases or (Phase.generate, Phase.shrink),
        print_blob=True,
        database=None,
    )


def test_any_history_ends_with_clerk_s_state(rig: Rig) -> None:
    """The final table equals the fold of the events, and the invariants I1 to I6 hold after every step (F8)."""
    run_state_machine_as_test(Histories, settings=_settings(HISTORIES))
    assert rig.history >= HISTORIES


NEWER = "(excluded.version, excluded.tiebreak) > (known.version, known.tiebreak)"
BREAKAGES = {
    "no tie-break": ("apply_changes.sql", NEWER, "excluded.version > known.version"),
    "hard delete without tombstone": (
        "delete_rows.sql",
        "gone as (",
        "forgotten as (delete from clerk_sync.identities where clerk_id = any($1::text[])), gone as (",
    ),
    "last arrival wins": ("apply_changes.sql", NEWER, "true"),
}


# With its seed each rule fails within 50 histories; other seeds need up to 400.
SEEDS = {"no tie-break": 15, "hard delete without tombstone": 2, "last arrival wins": 0}


@pytest.fixture
def broken(breakage: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The statements with one rule replaced by a plausible but wrong one."""
    file, right, wrong = BREAKAGES[breakage]
    replaced = 0

    def read_broken_sql(package: str, name: str) -> str:
        nonlocal replaced
        sql = read_sql(package, name)
        if name == file:
            assert right in sql
            replaced += 1
            sql = sql.replace(right, wrong)
        return sql

    for module in (queries, deletion_queries):
        monkeypatch.setattr(module, "read_sql", read_broken_sql)
    yield
    assert replaced


@pytest.mark.parametrize("breakage", BREAKAGES)
@pytest.mark.usefixtures("broken", "rig")
def test_a_broken_rule_fails_the_property(breakage: str) -> None:
    """Each plausible but wrong rule fails the property, so the property can fail.

    Hypothesis repeats a failed history. With concurrent deliveries it may fail elsewhere, which Hypothesis reports as
    `Flaky`.
    """
    seeded = seed(SEEDS[breakage])(type("SeededHistories", (Histories,), {}))
    with pytest.raises((AssertionError, ExceptionGroup, Flaky)):
        run_state_machine_as_test(seeded, settings=_settings(400, Phase.generate))
