"""What Clerk says, at random, and what the users table must hold once all of it was acknowledged."""

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg

from tests.world import T0, make_email_fields, make_event

# A row as it is compared: address, first name, time of the version.
Row = tuple[str, str, int]

# How many users' events are mixed with each other: few, so that those of one user meet in the same moment.
MIXED = 8


@dataclass(frozen=True)
class Message:
    """An event under its `svix-id`."""

    id: str
    body: bytes


def histories(rng: random.Random, prefix: str) -> Iterator[Message]:
    """Yield, without end, messages of users who come, change and go: out of order, some twice, some much later."""
    late: list[Message] = []
    number = 0
    while True:
        batch: list[Message] = []
        for _ in range(MIXED):
            number += 1
            events = _life(rng, f"user_{prefix}{number:06}")
            batch += [Message(f"msg_{prefix}{number:06}_{n}", json.dumps(e).encode()) for n, e in enumerate(events)]
        batch += rng.sample(batch, len(batch) // 6)
        rng.shuffle(batch)
        postponed, batch = batch[: len(batch) // 10], batch[len(batch) // 10 :]
        yield from batch
        yield from late
        late = postponed


def _life(rng: random.Random, user: str) -> list[dict[str, Any]]:
    """Return the events of one user, in the order in which they happened."""
    moment = T0 + rng.randrange(1_000_000)
    events = [_snapshot("user.created", user, moment)]
    for _ in range(rng.randrange(5)):
        # Two events of one version say the same: what if they do not is the business of F7.
        moment += rng.choice([0, 1, 1000])
        events.append(_snapshot("user.updated", user, moment))
    if rng.random() < 0.3:
        events.append(make_event("user.deleted", user, moment + 1))
    return events


def _snapshot(event_type: str, user: str, moment: int) -> dict[str, Any]:
    # An address of this version alone: who gets one that two users claim is the business of D1 to D7.
    return make_event(
        event_type, user, moment, first_name=f"{user} at {moment}", **make_email_fields(f"{user}.{moment}")
    )


def fold(messages: Iterable[Message]) -> dict[str, Row]:
    """Return the table that these messages make, whatever their order: the greatest version, unless deleted."""
    rows: dict[str, Row] = {}
    deleted = set()
    for message in messages:
        body = json.loads(message.body)
        data = body["data"]
        user = data["id"]
        if body["type"] == "user.deleted":
            deleted.add(user)
        elif user not in rows or data["updated_at"] > rows[user][2]:
            rows[user] = (data["email_addresses"][0]["email_address"], data["first_name"], data["updated_at"])
    return {user: row for user, row in rows.items() if user not in deleted}


async def lost(db: asyncpg.Connection, acknowledged: Iterable[str]) -> list[str]:
    """Return the messages that were answered 2xx and of which the inbox knows nothing, or no way on."""
    return [
        row["id"]
        for row in await db.fetch(
            """
            select m.id from unnest($1::text[]) as m (id)
            where not exists (
                select from clerk_sync.events e where e.id = m.id
                and (e.status in ('applied', 'stale', 'ignored')
                    or e.status = 'failed' and e.next_attempt_at is not null))
            """,
            list(acknowledged),
        )
    ]


async def unfinished(db: asyncpg.Connection) -> int:
    """Return how many events the service means to try again by itself."""
    return int(await db.fetchval("select count(*) from clerk_sync.events where status = 'failed'"))


async def differences(db: asyncpg.Connection, truth: dict[str, Row]) -> list[str]:
    """Return in what the users table is not the truth; a user who is there twice is a difference, too."""
    found: dict[str, Row] = {}
    wrong = []
    for user, *row in await db.fetch(
        "select id, email, first_name, round(extract(epoch from updated_at) * 1000)::bigint from public.users"
    ):
        if user in found:
            wrong.append(f"{user} is there twice")
        found[user] = (row[0], row[1], row[2])
    return wrong + [
        # Versions only: a person's address has no place in what a test prints.
        f"{user}: is {_version(found.get(user))}, must be {_version(truth.get(user))}"
        for user in sorted(truth.keys() | found.keys())
        if truth.get(user) != found.get(user)
    ]


def _version(row: Row | None) -> int | None:
    return row[2] if row else None
