"""Property test: reconciles at any moment are one more source, and the table still ends with Clerk's state."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from sync_service.clerk.change import Snapshot, Version
from sync_service.clerk.client import ClerkClient
from sync_service.clerk.list_requests import create_limiter
from sync_service.clerk.user import decode_user
from sync_service.clerk.user_list import UserList
from sync_service.sync.reconcile import Reconciler
from tests.clerk_stub import SECRET_KEY, ClerkStub, run_clerk_stub
from tests.test_property import RIG, SLOTS, Histories, Rig, _settings
from tests.world import encode_body, make_email_fields

HISTORIES = int(os.environ.get("HISTORIES", "30")) // 3

# Steps that no webhook has announced when the run begins. The app's own steps change or lose a row.
APP_STEPS = ["change_row", "lose_row"]
STEPS = st.tuples(st.sampled_from(["sign_up", "rename", "swap_emails", "delete", *APP_STEPS]), SLOTS, SLOTS)

STUBS: list[ClerkStub] = []


class HistoriesWithReconciles(Histories):
    """The same steps, and runs of the reconcile over the users as Clerk has them at that moment."""

    def __init__(self) -> None:
        super().__init__()
        # A run is over all users, so that the users of earlier histories must go.
        self.sql("truncate users, clerk_sync.identities, clerk_sync.events")
        self.changed_at: dict[str, int] = {}

    def emit_user(self, user_id: str, event_type: str = "user.updated") -> None:
        super().emit_user(user_id, event_type)
        self.changed_at[user_id] = self.clock

    @precondition(lambda self: not self.refusing)
    @rule(steps=st.lists(STEPS, max_size=6), last_step=st.sampled_from(APP_STEPS))
    def reconcile(self, steps: list[tuple[str, int, int]], last_step: str) -> None:
        """Afterwards the table equals Clerk, whichever webhooks are still on their way.

        The app's last step then meets rows of the version that Clerk has.
        """
        for name, one, other in steps:
            self.take_step(name, one, other)
        self.run_and_compare()
        self.take_step(last_step, 0, 0)
        self.run_and_compare()

    def run_and_compare(self) -> None:
        stub = STUBS[0]
        stub.users.clear()
        for user_id, user in self.users.items():
            email = make_email_fields(f"{self.prefix}{user['email']}") if user["email"] is not None else {}
            stub.add_user(user_id, self.changed_at[user_id], first_name=user["name"], **email)
            decoded, data = decode_user(encode_body(stub.users[user_id]))
            known, current = self.truth[user_id], Snapshot(decoded, Version.from_api(decoded), data)
            if known is not None and known.version <= current.version:
                self.truth[user_id] = current
        self.rig.run(self._reconcile(stub))
        rows = self.rig.run(self._read_rows())
        assert rows == {
            user_id: (user["name"], stub.users[user_id]["email_addresses"][0]["email_address"] if email else None)
            for user_id, user in self.users.items()
            for email in [stub.users[user_id]["email_addresses"]]
        }

    def take_step(self, name: str, one: int, other: int) -> None:
        row = f"id = (select id from users order by id offset {one} limit 1)"
        match name:
            case "sign_up":
                self.sign_up(one, "Ada", other)
            case "rename":
                self.rename(one, "Grace", other)
            case "swap_emails":
                self.swap_emails(one, other)
            case "delete":
                self.delete(one)
            case "change_row":
                self.sql(f"update users set first_name = 'mine' where {row}")
            case "lose_row":
                self.sql(f"delete from users where {row}")

    async def _reconcile(self, stub: ClerkStub) -> None:
        async with httpx2.AsyncClient() as http:
            users = UserList(ClerkClient(http, stub.url, SECRET_KEY), create_limiter("sk_live_"))
            report = await Reconciler(self.rig.applier, users).run()
        assert report.is_clean, report


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    made = Rig(database)
    made.run(made.start())
    context: Any = run_clerk_stub()
    STUBS[:] = [made.run(context.__aenter__())]
    RIG[:] = [made]
    yield made
    made.run(context.__aexit__(None, None, None))
    made.run(made.stop())
    made.runner.close()
    with contextlib.suppress(IndexError):
        RIG.clear()


def test_any_history_with_reconciles_ends_with_clerk_s_state(rig: Rig) -> None:
    """Users appear, change, swap their emails and go during the runs, and webhooks come before and after them."""
    run_state_machine_as_test(HistoriesWithReconciles, settings=_settings(HISTORIES))
    assert rig.history >= HISTORIES
