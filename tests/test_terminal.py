"""Names and events cannot control the operator's terminal."""

from pathlib import Path

import pytest
import structlog

from sync_service.logs import configure_logging
from tests.processes import run_here
from tests.world import World, make_event, make_message_id

# Clears the screen, sets the title, starts a C1 sequence, reverses the text, adds a line.
EVIL = "a\x1b[2J\x1b]0;title\x07\x9b31m\u202e\x7f\rb"


def assert_is_harmless(text: str) -> None:
    assert not [char for char in text if (ord(char) < 32 and char not in "\n\t") or 127 <= ord(char) < 160]
    assert "\u202e" not in text
    assert "\\u001b" in text


async def test_a_name_is_printed_without_its_control_sequences(world: World, database: str, tmp_path: Path) -> None:
    event_id = make_message_id()
    event = make_event("user.created", "user_1", first_name=EVIL, last_name="x\n  id  user_2", username=f"{EVIL}\n")
    await world.deliver_ok(event, event_id)
    shown = run_here("users", "show", "user_1", cwd=tmp_path, DATABASE_URL=database, QUIET="1").stdout
    assert "\n  id  user_2" not in shown
    for arguments in (
        ("users", "show", "user_1"),
        ("users", "show", "user_1", "--json"),
        ("events", "show", event_id),
    ):
        done = run_here(*arguments, cwd=tmp_path, DATABASE_URL=database, QUIET="1")
        assert_is_harmless(done.stdout)
    refused = run_here("events", "replay", EVIL, cwd=tmp_path, DATABASE_URL=database, QUIET="1")
    assert refused.returncode == 2
    assert "\x1b" not in refused.stderr


@pytest.mark.parametrize("message", ["event", EVIL])
def test_a_log_line_for_a_terminal_has_no_control_sequence(tmp_path: Path, message: str) -> None:
    with (tmp_path / "log").open("w") as stream:
        configure_logging(form="console", stream=stream)
        structlog.get_logger().info(message, type=EVIL, types=[EVIL])
    assert_is_harmless((tmp_path / "log").read_text())
