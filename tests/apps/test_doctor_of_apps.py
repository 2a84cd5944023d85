"""What `doctor` says of each application, as its owner has it: nothing is wrong, and what is worth knowing is said."""

from pathlib import Path

import pytest

from tests.apps.shapes import SHAPES, Shape
from tests.findings import run_doctor

# Of any application on which nothing has happened yet.
ALWAYS = {"database", "foreign_keys", "inbox", "no_secret_key", "no_webhook_yet", "users"}

NEON = {"cascade_never_fires"}

# What is said besides, how many foreign keys lie below the users, and what is a warning.
SAID: dict[str, tuple[set[str], int, set[str]]] = {
    "music_chat-created": (NEON, 4, set()),
    "music_chat-found": (NEON | {"odd_clerk_ids", "unseen_clerk_ids"}, 4, set()),
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


async def test_doctor_says_what_its_owner_should_know(shape: Shape, database: str) -> None:
    folder = Path(__file__).parent / shape.name.partition("-")[0]
    found = await run_doctor(database, (folder / "sync.toml").read_text())
    said, foreign_keys, warned = SAID[shape.name]
    assert not found.codes("wrong")
    assert found.codes("warning") == warned
    assert found.codes("note") == ALWAYS | said
    assert len(found.one("foreign_keys").data["foreign_keys"]) == foreign_keys
