"""The chart of the events of the last hours: numbers → the rectangles of an SVG (pure)."""

from collections.abc import Sequence

from msgspec import Struct

from sync_service.store.event_filter import STATUSES
from sync_service.store.summary import HourCount

WIDTH, HEIGHT = 720, 160
_GAP = 4

# One failed event must be visible beside ten thousand others.
_MIN_HEIGHT = 3.0


class Bar(Struct, frozen=True):
    """One hour: its place, and the status, the top edge and the height of each rectangle."""

    hour: HourCount
    x: float
    width: float
    parts: list[tuple[str, float, float]]


def build_bars(hours: Sequence[HourCount]) -> list[Bar]:
    """Return the bars of these hours, the oldest at the left. The highest one has the height of the chart."""
    scale = (HEIGHT - len(STATUSES) * _MIN_HEIGHT) / max(1, *(sum(hour.events.values()) for hour in hours))
    step = WIDTH / len(hours)
    return [
        Bar(hour, round(number * step, 1), round(step - _GAP, 1), _stack(hour, scale))
        for number, hour in enumerate(hours)
    ]


def _stack(hour: HourCount, scale: float) -> list[tuple[str, float, float]]:
    parts = []
    top = float(HEIGHT)
    for status in STATUSES:
        if number := hour.events[status]:
            height = max(_MIN_HEIGHT, number * scale)
            top -= height
            parts.append((status, round(top, 1), round(height, 1)))
    return parts
