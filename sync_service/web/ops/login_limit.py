"""The limit on failed logins of one address (pure)."""

import math
from collections import OrderedDict, deque

MAX_FAILURES = 10
WINDOW_SECONDS = 60.0

# A caller with more addresses than this gains further attempts, but no more of this process's memory.
MAX_ADDRESSES = 10_000


class LoginLimit:
    """Counts the failed logins of the last minute, for each peer address. `now` is a monotonic time."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def seconds_to_wait(self, address: str, now: float) -> int:
        """Return the seconds until the address may try again; 0 means now."""
        times = self._failures.get(address, ())
        recent = [time for time in times if now - time < WINDOW_SECONDS]
        return max(1, math.ceil(recent[0] + WINDOW_SECONDS - now)) if len(recent) >= MAX_FAILURES else 0

    def add_failure(self, address: str, now: float) -> None:
        """Count a failed login; forget the address whose last one is the oldest if there are too many."""
        times = self._failures.setdefault(address, deque(maxlen=MAX_FAILURES))
        times.append(now)
        self._failures.move_to_end(address)
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)
