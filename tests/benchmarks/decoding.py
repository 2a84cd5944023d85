"""The choice of msgspec: the same event decoded in several ways in one run."""

import json
import time
from collections.abc import Callable

import msgspec
import orjson

from sync_service.clerk.events import parse_event
from sync_service.clerk.user import User
from tests.benchmarks.bodies import make_body

LOOPS = 20_000


class _Typed(msgspec.Struct):
    type: str
    data: User


def measure() -> None:
    """Print the microseconds per event, the best of five rounds."""
    body = make_body("user.updated", "user_2aBcDeFgHiJkLmNoPqRsTuVwXyZ", 1_761_092_033_553)
    typed = msgspec.json.Decoder(_Typed)
    ways: list[tuple[str, Callable[[], object]]] = [
        ("json", lambda: json.loads(body)),
        ("orjson", lambda: orjson.loads(body)),
        ("msgspec, untyped", lambda: msgspec.json.decode(body)),
        ("msgspec, the fields needed, checked", lambda: typed.decode(body)),
        ("parse_event: also the payload and the version", lambda: parse_event("msg_1", body)),
    ]
    print(f"  an event of {len(body)} bytes; json and orjson return dicts without validation")
    for name, way in ways:
        print(f"  {name:45} {_microseconds(way):6.1f} µs")


def _microseconds(way: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(LOOPS // 5):
            way()
        best = min(best, time.perf_counter() - began)
    return best / (LOOPS // 5) * 1_000_000
