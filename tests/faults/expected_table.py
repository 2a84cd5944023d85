"""Random events of Clerk, and the users table that must result once all of them are acknowledged."""

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg

from tests.world import T0, make_email_fields, make_event

# The compared values of a row: email, first name, time of the version.
Row = tuple[str, str, int]

# Users with interleaved events: few, so that events of one user are often concurrent.
USERS_PER_BATCH = 8


@dataclass(frozen=True)
class Message:
    """An event with its `svix-id`."""

    id: str
    body: bytes


def generate_messages(rng: random.Random, prefix: str) -> Iterator[Message]:
    """Yield messages without end: users are created, updated and deleted, unordered, some twice, some late."""
    late: list[Message] = []
    number = 0
    while True:
        batch: list[Message] = []
        for _ in range(USERS_PER_BATCH):
            number += 1
            events = _generate_events(rng, f"user_{prefix}{number:06}")
            batch += [Message(f"msg_{prefix}{number:06}_{n}", json.dumps(e).encode()) for n, e in enumerate(events)]
        batch += rng.sample(batch, len(batch) // 6)
        rng.shuffle(batch)
        postponed, batch = batch[: len(batch) // 10], batch[len(batch) // 10 :]
        yield from batch
        yield from late
        late = postponed


def _generate_events(rng: random.Random, user: str) -> list[dict[str, Any]]:
    """Return the events of one user in chronological order."""
    moment = T0 + rng.randrange(1_000_000)
    events = [_snapshot("user.created", user, moment)]
    for _ in range(rng.randrange(5)):
        # Events with the same timestamp have the same content here. Other tests cover different contents (F7).
        moment += rng.choice([0, 1, 1000])
        events.append(_snapshot("user.updated", user, moment))
    if rng.random() < 0.3:
        events.append(make_event("user.deleted", user, moment + 1))
    return events


def _snapshot(event_type: str, user: str, moment: int) -> dict[str, Any]:
    # Each version has an email of its own. Other tests cover conflicts of emails (D1 to D7).
    return make_event(
        event_type, user, moment, first_name=f"{user} at {moment}", **make_email_fields(f"{user}.{moment}")
    )


def fold(messages: Iterable[Message]) -> dict[str, Row]:
    """Return the expected table: the greatest version of each user that is not deleted, in any order of messages."""
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


async def find_lost(db: asyncpg.Connection, acknowledged: Iterable[str]) -> list[str]:
    """Return the acknowledged messages that the inbox lacks, or has without a result and without a next attempt."""
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


async def count_unfinished(db: asyncpg.Connection) -> int:
    """Return the number of events that the service will retry."""
    return int(await db.fetchval("select count(*) from clerk_sync.events where status = 'failed'"))


async def find_differences(db: asyncpg.Connection, expected: dict[str, Row]) -> list[str]:
    """Return the differences between the users table and the expected one; a duplicate is a difference, too."""
    found: dict[str, Row] = {}
    wrong = []
    for user, *row in await db.fetch(
        "select id, email, first_name, round(extract(epoch from updated_at) * 1000)::bigint from public.users"
    ):
        if user in found:
            wrong.append(f"{user} has two rows")
        found[user] = (row[0], row[1], row[2])
    return wrong + [
        # Versions only: a person's address has no place in what a test prints.
        f"{user}: is {_get_version(found.get(user))}, must be {_get_version(expected.get(user))}"
        for user in sorted(expected.keys() | found.keys())
        if expected.get(user) != found.get(user)
    ]


def _get_version(row: Row | None) -> int | None:
    return row[2] if row else None
