"""The pure parts of the operators' page: hidden values, the chart, durations."""

from datetime import UTC, datetime
from typing import Any

import pytest

from sync_service.clerk.masking import HIDDEN, mask
from sync_service.store.summary import HourCount
from sync_service.web.ops.page.chart import HEIGHT, WIDTH, build_bars
from sync_service.web.ops.page.rendering import format_duration
from tests.world import make_email, make_user_data

NO_EVENTS = dict.fromkeys(("applied", "stale", "ignored", "failed", "dead"), 0)


def test_a_masked_user_keeps_ids_times_and_flags_only() -> None:
    user = make_user_data("user_1", 1_700_000_000_000, banned=False, email_addresses=[make_email("ada")])
    masked = mask(user)
    assert masked["id"] == "user_1"
    assert masked["updated_at"] == 1_700_000_000_000
    assert masked["banned"] is False
    assert masked["first_name"] == masked["last_name"] == HIDDEN
    [email] = masked["email_addresses"]
    assert (email["id"], email["object"], email["email_address"]) == ("idn_ada", "email_address", HIDDEN)
    assert email["verification"]["status"] == "verified"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", "ada@example.com"),
        ("external_id", "ada_lovelace"),
        ("external_id", 19_151_210),
        ("object", "Ada Lovelace"),
        ("status", "Ada"),
        ("created_at", "Ada"),
        ("created_at", 151),
        ("public_metadata", {"ada@example.com": True}),
        ("phone_numbers", ["+1 555 0100"]),
    ],
)
def test_a_text_of_a_person_is_hidden_in_any_field(name: str, value: Any) -> None:
    assert mask({name: value})[name] in (HIDDEN, [HIDDEN])


def test_the_bars_stay_inside_the_chart_and_show_each_status() -> None:
    crowded = HourCount(datetime(2026, 1, 1, tzinfo=UTC), {**NO_EVENTS, "applied": 100_000, "failed": 1, "dead": 1})
    bars = build_bars(
        [crowded] + [HourCount(datetime(2026, 1, 1, hour, tzinfo=UTC), NO_EVENTS) for hour in range(1, 24)]
    )
    assert [status for status, _, _ in bars[0].parts] == ["applied", "failed", "dead"]
    assert bars[1].parts == []
    assert all(height >= 3 and 0 <= y <= HEIGHT - height + 0.1 for _, y, height in bars[0].parts)
    assert all(bar.x >= 0 and bar.x + bar.width <= WIDTH for bar in bars)


def test_a_chart_without_events_is_empty() -> None:
    assert build_bars([HourCount(datetime(2026, 1, 1, tzinfo=UTC), NO_EVENTS)] * 2)[1].parts == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (59, "59 s"), (60, "1 min"), (7_199, "1 h"), (200_000, "2 d")]
)
def test_a_duration_has_one_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
