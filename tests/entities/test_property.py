"""Property test: after any history of users, organizations, sessions and memberships, the tables equal Clerk's state.

The events arrive in any order, several at a time, more than once, and some parents never. HISTORIES sets the number of
histories. A failure names the seed of its history.
"""

import asyncio
import os
import random
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest

from sync_service.settings import Settings
from tests.entities.conftest import make_membership_event, make_organization_event, make_session_event, retry_all
from tests.world import T0, World, make_event, make_message_id

HISTORIES = int(os.environ.get("HISTORIES", "30")) // 5

Message = tuple[str, dict[str, Any]]


@dataclass
class Clerk:
    """Clerk's objects with their newest content, and the messages about them."""

    rng: random.Random
    prefix: str
    users: dict[str, str] = field(default_factory=dict)
    organizations: dict[str, str] = field(default_factory=dict)
    sessions: dict[str, tuple[str, bool]] = field(default_factory=dict)
    memberships: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)

    def send(self, body: dict[str, Any]) -> None:
        """Add a message, perhaps twice."""
        self.messages += [(make_message_id(), body)] * self.rng.choice((1, 1, 2))

    def live(self) -> None:
        """Let everything happen."""
        users = [f"user_{self.prefix}{n}" for n in range(3)]
        organizations = [f"org_{self.prefix}{n}" for n in range(2)]
        for user in users:
            self._change(
                self.users, user, "user", lambda kind, id_, at, name: make_event(kind, id_, at, first_name=name)
            )
        for organization in organizations:
            self._change(
                *(self.organizations, organization, "organization"),
                lambda kind, id_, at, name: make_organization_event(kind, id_, at, name=name),
            )
        for n, user in enumerate(users * 2):
            self._start_session(f"sess_{self.prefix}{n}", user)
        for n, (organization, user) in enumerate((o, u) for o in organizations for u in users):
            self._join(f"orgmem_{self.prefix}{n}", organization, user)

    def _change(self, known: dict[str, str], id_: str, kind: str, make: Any) -> None:
        if self.rng.random() < 0.2:
            return  # never announced
        for version in range(self.rng.randint(1, 3)):
            known[id_] = f"name {version}"
            self.send(make(f"{kind}.{'updated' if version else 'created'}", id_, T0 + version, known[id_]))
        if self.rng.random() < 0.3:
            del known[id_]
            self.send(make(f"{kind}.deleted", id_, T0, ""))

    def _start_session(self, session: str, user: str) -> None:
        is_open = self.rng.random() < 0.5
        self.send(make_session_event("session.created", session, user, T0, user=None))
        if not is_open:
            self.send(make_session_event("session.ended", session, user, T0 + self.rng.randint(0, 5), user=None))
        if user in self.users:
            self.sessions[session] = (user, is_open)

    def _join(self, membership: str, organization: str, user: str) -> None:
        role = "org:member"
        self.send(make_membership_event("created", membership, organization, user, T0, role=role))
        if self.rng.random() < 0.5:
            role = "org:admin"
            self.send(make_membership_event("updated", membership, organization, user, T0 + 1, role=role))
        if self.rng.random() < 0.3:
            self.send(make_membership_event("deleted", membership, organization, user, T0 + 1))
        elif user in self.users and organization in self.organizations:
            self.memberships[membership] = (organization, user, role)


@pytest.mark.parametrize("seed", range(HISTORIES))
async def test_any_history_of_four_entities_ends_in_clerk_s_state(world: World, settings: Settings, seed: int) -> None:
    rng = random.Random(seed)
    clerk = Clerk(rng, f"{seed}_")
    clerk.live()
    messages = rng.sample(clerk.messages, len(clerk.messages))
    while messages:
        size = rng.randint(1, 8)
        group, messages = messages[:size], messages[size:]
        responses = await asyncio.gather(*(world.deliver(body, message_id) for message_id, body in group))
        assert {response.status_code for response in responses} <= {200, 202}
    await retry_all(world.db, settings, world)
    assert await read_state(world.db) == (clerk.users, clerk.organizations, clerk.sessions, clerk.memberships)
    waiting = await world.db.fetch("select id, reason, attempts from clerk_sync.events where status = 'failed'")
    assert {row["reason"] for row in waiting} <= {"waiting_for_user", "waiting_for_organization"}
    assert {row["attempts"] for row in waiting} <= {0}


async def read_state(db: asyncpg.Connection) -> tuple[dict[str, Any], ...]:
    """Return the content of the four tables in the form of `Clerk`."""
    users = await db.fetch("select clerk_id, first_name from people")
    organizations = await db.fetch("select clerk_org_id, name from teams")
    sessions = await db.fetch("select session_id, clerk_id, is_active from user_sessions")
    memberships = await db.fetch(
        "select clerk_membership_id, clerk_org_id, clerk_id, role from team_members as m"
        " join teams on teams.id = m.team_id join people on people.id = m.person_id"
    )
    return (
        {row[0]: row[1] for row in users},
        {row[0]: row[1] for row in organizations},
        {row[0]: tuple(row)[1:] for row in sessions},
        {row[0]: tuple(row)[1:] for row in memberships},
    )
