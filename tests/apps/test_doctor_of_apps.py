"""The doctor's findings for each application as its owner has it: no errors, and the notes that matter."""

from pathlib import Path

import asyncpg
import pytest

from tests.apps.shapes import SHAPES, Shape
from tests.findings import run_doctor
from tests.world import World, make_email_fields, make_event

# The notes for every application without any event yet.
COMMON_NOTES = {
    *("database", "foreign_keys", "inbox", "joined_rows", "no_secret_key", "no_token_key", "no_webhook_yet", "users"),
}

NEON_NOTES = {"cascade_never_fires"}

# Further notes, the number of foreign keys below the users, and the warnings.
EXPECTED: dict[str, tuple[set[str], int, set[str]]] = {
    "music_chat-created": (NEON_NOTES, 4, set()),
    "music_chat-found": (NEON_NOTES | {"odd_clerk_ids", "unseen_clerk_ids"}, 4, set()),
    "career": ({"deletion_cost", "deletion_forbidden", "foreign_key_without_index", "short_column"}, 35, set()),
    "tiers": ({"deletion_cost"}, 1, set()),
    "onboarding": (
        {"deletion_cost", "foreign_key_without_index", "no_foreign_key", "short_column"},
        5,
        {"deletion_forbidden"},
    ),
    "persona_chat": ({"deletion_cost"}, 3, set()),
}


@pytest.fixture(params=SHAPES, ids=lambda shape: shape.name)
def shape(request: pytest.FixtureRequest) -> Shape:
    found: Shape = request.param
    return found


async def test_the_doctor_reports_the_expected_findings(shape: Shape, database: str) -> None:
    folder = Path(__file__).parent / shape.name.partition("-")[0]
    found = await run_doctor(database, (folder / "sync.toml").read_text())
    notes, foreign_keys, warnings = EXPECTED[shape.name]
    assert not found.codes("wrong")
    assert found.codes("warning") == warnings
    assert found.codes("note") == COMMON_NOTES | notes
    assert len(found.one("foreign_keys").data["foreign_keys"]) == foreign_keys


async def test_the_doctor_joins_rows_with_the_name_and_the_email(
    shape: Shape, database: str, db: asyncpg.Connection, world: World
) -> None:
    """The printed query runs as it is."""
    await world.deliver_ok(make_event("user.created", "user_1", **make_email_fields("a")))
    for statement in shape.children.values():
        await db.execute(statement, "user_1")
    folder = Path(__file__).parent / shape.name.partition("-")[0]
    found = await run_doctor(database, (folder / "sync.toml").read_text())
    assert (found.one("users").data["newest"] is None) is (shape.name in {"career", "persona_chat"})
    joined = found.one("joined_rows")
    counts = [count for count in joined.data["tables"].values() if count["rows"]]
    assert counts
    assert all(count["rows"] >= count["name"] > 0 and count["email"] > 0 for count in counts)
    [query] = joined.run
    rows = await db.fetch(query)
    assert len(rows) == next(iter(joined.data["tables"].values()))["rows"]
