"""Events in every shape that is known, through the real route: ours always, Clerk's own where they are at hand."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.world import World, make_message_id, sign_event

OURS = sorted((Path(__file__).parent / "samples").glob("*.json"))


@pytest.mark.parametrize("file", OURS, ids=lambda file: file.stem)
async def test_our_samples_end_in_the_row_beside_them(world: World, file: Path) -> None:
    """A file holds an event, and the row that the table must show after it, or the outcome where there is none."""
    sample = json.loads(file.read_text())  # noqa: ASYNC240  a few kilobytes
    outcome = await world.deliver_ok(sample["event"])
    assert outcome == sample.get("outcome", "applied")
    row = await world.get_user(_user(sample["event"])["id"])
    assert _alike(row) == _alike(sample.get("row"))


# What Clerk's own samples must come to, read off them by hand: id, address, verified, phone, names, external ID,
# created and updated in milliseconds.
ROWS: dict[str, tuple[Any, ...]] = {
    "catalog-user.created": (
        *("user_29w83sxmDNGwOuEthce5gg56FcC", "example@example.org", True, None, "Example", "Example", "567772"),
        *(1654012591514, 1654012591835),
    ),
    "catalog-user.updated": (
        *("user_29w83sxmDNGwOuEthce5gg56FcC", "example@example.org", True, None, "Example", None, None),
        *(1654012591514, 1654012824306),
    ),
    "docs-user.created-webhooks_overview": (
        *("user_29w83sxmDNGwOuEthce5gg56FcC", "example@example.org", True, None, "Example", "Example", "567772"),
        *(1654012591514, 1654012591835),
    ),
    "real-user.created-email_code-2025-10": (
        *("user_34OkVZ9TQgRLSX8xTf2SDZIRD9j", "ben@example.com", True, None, "Benoit", "Example", None),
        *(1761092033534, 1761092033553),
    ),
    "real-user.updated-google_account_linked-2025-09": (
        *("user_32ADzRpN1ZfsZRSDZscsYtgshTA", "mika@example.com", True, None, "Mika", "Example", None),
        *(1756854752856, 1757805877456),
    ),
    # Its primary address is not among its addresses, of which there are none.
    "spec-user.created": (
        *("user_2g7np7Hrk0SN6kj5EDMLDaKNL0S", None, False, None, "John", "Doe", None),
        *(1716883200000, 1716883200000),
    ),
    "spec-session.created": (
        *("user_2g7np7Hrk0SN6kj5EDMLDaKNL0S", None, False, None, "John", "Doe", None),
        *(1716883200000, 1716883200000),
    ),
    "spec-user.updated": (
        *("user_2g7np7Hrk0SN6kj5EDMLDaKNL0S", None, False, None, "John", "Doe Updated", None),
        *(1716883200000, 1716883500000),
    ),
}


async def test_clerk_s_own_samples_end_in_the_row_that_they_tell_of(serve: Serve, shared: Path) -> None:
    """Each on an empty table, for they are of several years; a service for each instance, for it takes only one's."""
    by_instance: dict[str, list[Path]] = {}
    for file in sorted((shared / "samples").glob("*.json")):
        told = json.loads(file.read_bytes())
        by_instance.setdefault(told.get("instance_id", "") if isinstance(told, dict) else "", []).append(file)
    seen = set()
    for files in by_instance.values():
        async with serve() as world:
            for file in files:
                await world.db.execute("truncate users, clerk_sync.events, clerk_sync.identities, clerk_sync.instance")
                if await _ends_as_it_tells(world, file):
                    seen.add(file.stem)
    assert seen == set(ROWS)
    assert sum(map(len, by_instance.values())) >= 60


async def _ends_as_it_tells(world: World, file: Path) -> bool:
    """Deliver the sample and look at what became of it; return whether it is a user who must be there."""
    body, message_id = file.read_bytes(), make_message_id()  # noqa: ASYNC240  a few kilobytes
    answer = await world.client.post("/webhooks/clerk", content=body, headers=sign_event(body, message_id))
    told = json.loads(body)
    if file.name.startswith(("bapi-", "fapi-", "jwt-")):
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_payload"), file.name
        assert await world.get_event(message_id) is None
        return False
    filed = await world.get_event(message_id)
    assert filed
    if file.stem not in ROWS and not told["type"].startswith("user."):
        assert answer.json() == {"outcome": "ignored"}, file.name
        assert (filed["type"], filed["payload"]) == (told["type"], None)
        assert await world.get_users() == []
        return False
    assert answer.json() == {"outcome": "applied"}, file.name
    row = await world.get_user(_user(told)["id"])
    if told["type"] == "user.deleted":
        assert row is None
        return False
    assert row
    assert _told(row) == ROWS[file.stem], file.name
    return True


def _user(event: dict[str, Any]) -> dict[str, Any]:
    """Return the user of an event, or what is left of one: that of a sign-in lies one deeper."""
    data: dict[str, Any] = event["data"]
    user: dict[str, Any] = data.get("user", data)
    return user


def _told(row: dict[str, Any]) -> tuple[Any, ...]:
    columns = ("id", "email", "email_verified", "phone", "first_name", "last_name", "external_id")
    return (
        *(row[column] for column in columns),
        *(_milliseconds(row[column]) for column in ("created_at", "updated_at")),
    )


def _milliseconds(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1000)


def _alike(row: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the row with its times as numbers: one instant is written in many ways."""
    if row is None:
        return None
    return {key: _milliseconds(value) if key.endswith("_at") and value else value for key, value in row.items()}
