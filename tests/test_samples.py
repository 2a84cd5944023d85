"""Sample events through the real route: the project's own, and Clerk's own where they are available."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.world import World, make_message_id, sign_event

OURS = sorted((Path(__file__).parent / "samples").glob("*.json"))


@pytest.mark.parametrize("file", OURS, ids=lambda file: file.stem)
async def test_the_project_s_samples_produce_the_expected_rows(world: World, file: Path) -> None:
    """A file contains an event and either the expected row or the expected outcome."""
    sample = json.loads(file.read_text())  # noqa: ASYNC240  a few kilobytes
    outcome = await world.deliver_ok(sample["event"])
    assert outcome == sample.get("outcome", "applied")
    row = await world.get_user(_get_user(sample["event"])["id"])
    assert _normalise_times(row) == _normalise_times(sample.get("row"))


# The rows that Clerk's samples must produce, derived by hand: id, email, verified, phone, names, external ID, and
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
    # Its primary email is not in `email_addresses`, which is empty.
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


async def test_clerk_s_own_samples_produce_the_expected_rows(serve: Serve, shared: Path) -> None:
    """Each sample gets an empty table, since their years differ, and a service for its instance."""
    by_instance: dict[str, list[Path]] = {}
    for file in sorted((shared / "samples").glob("*.json")):
        sample = json.loads(file.read_bytes())
        by_instance.setdefault(sample.get("instance_id", "") if isinstance(sample, dict) else "", []).append(file)
    seen = set()
    for files in by_instance.values():
        async with serve() as world:
            for file in files:
                for table in ("users", "clerk_sync.events", "clerk_sync.identities", "clerk_sync.instance"):
                    await world.db.execute(f"delete from {table}")
                if await _deliver_and_check(world, file):
                    seen.add(file.stem)
    assert seen == set(ROWS)
    assert sum(map(len, by_instance.values())) >= 60


async def _deliver_and_check(world: World, file: Path) -> bool:
    """Deliver the sample and check the outcome; return whether it must produce a row."""
    body, message_id = file.read_bytes(), make_message_id()  # noqa: ASYNC240  a few kilobytes
    response = await world.client.post("/webhooks/clerk", content=body, headers=sign_event(body, message_id))
    sample = json.loads(body)
    if file.name.startswith(("bapi-", "fapi-", "jwt-")):
        assert (response.status_code, response.json()["code"]) == (400, "bad_payload"), file.name
        assert await world.get_event(message_id) is None
        return False
    stored = await world.get_event(message_id)
    assert stored
    if file.stem not in ROWS and not sample["type"].startswith("user."):
        assert response.json() == {"outcome": "ignored"}, file.name
        assert (stored["type"], stored["payload"]) == (sample["type"], None)
        assert await world.get_users() == []
        return False
    assert response.json() == {"outcome": "applied"}, file.name
    row = await world.get_user(_get_user(sample)["id"])
    if sample["type"] == "user.deleted":
        assert row is None
        return False
    assert row
    assert _select_columns(row) == ROWS[file.stem], file.name
    return True


def _get_user(event: dict[str, Any]) -> dict[str, Any]:
    """Return the user of an event; a session event contains the user one level deeper."""
    data: dict[str, Any] = event["data"]
    user: dict[str, Any] = data.get("user", data)
    return user


def _select_columns(row: dict[str, Any]) -> tuple[Any, ...]:
    columns = ("id", "email", "email_verified", "phone", "first_name", "last_name", "external_id")
    return (
        *(row[column] for column in columns),
        *(_parse_milliseconds(row[column]) for column in ("created_at", "updated_at")),
    )


def _parse_milliseconds(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1000)


def _normalise_times(row: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the row with its times as numbers, because one time has several text forms."""
    if row is None:
        return None
    return {key: _parse_milliseconds(value) if key.endswith("_at") and value else value for key, value in row.items()}
