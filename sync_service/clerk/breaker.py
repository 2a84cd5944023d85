"""Circuit breaker and rate limiter for requests to Clerk (pure: the clock is an argument, in seconds)."""

from collections import deque

# After this many consecutive failures, requests fail at once until the pause is over. Then one probe request goes out;
# the others keep failing until its result is known, at most for PROBE_SECONDS.
MOST_FAILURES = 5
PAUSE_SECONDS = 5.0
PROBE_SECONDS = 5.0


class Breaker:
    """Circuit breaker. It opens after consecutive failures, and at once at a rate limit or a rejected key."""

    def __init__(self) -> None:
        """Start closed."""
        self._failures = 0
        self._open_until = 0.0

    def seconds_open(self, now: float) -> float:
        """Return the seconds until the next request is allowed; 0 if it is allowed now."""
        return max(0.0, self._open_until - now)

    def asks(self, now: float) -> None:
        """Record that a request goes out. After failures it is the probe, and blocks others until its result."""
        if self._failures >= MOST_FAILURES:
            self._open_until = now + PROBE_SECONDS

    def succeeded(self) -> None:
        """Record a success, which closes the breaker."""
        self._failures = 0
        self._open_until = 0.0

    def failed(self, now: float, pause: float | None = None) -> None:
        """Record a failure. `pause` opens the breaker at once, for that many seconds."""
        self._failures += 1
        if pause is not None:
            self._open_until = now + (pause or PAUSE_SECONDS)
        elif self._failures >= MOST_FAILURES:
            self._open_until = max(self._open_until, now + PAUSE_SECONDS)


class Quota:
    """Rate limiter with a sliding window, over all requests and per user. It stores only the grants of the window."""

    def __init__(self, *, most: int, most_of_one: int = 10, seconds: float = 10.0) -> None:
        """Grant at most `most` requests in any `seconds`, and at most `most_of_one` for the same user."""
        self._max_requests = most
        self._max_per_user = most_of_one
        self._window_seconds = seconds
        self._granted: deque[tuple[float, str]] = deque()
        self._of_one: dict[str, deque[float]] = {}

    def take(self, clerk_id: str, now: float) -> float:
        """Return 0 if the request is granted, else the seconds until one will be."""
        self._drop_expired(now)
        of_user = self._of_one.get(clerk_id, deque())
        if len(of_user) >= self._max_per_user:
            return of_user[0] + self._window_seconds - now
        if len(self._granted) >= self._max_requests:
            return self._granted[0][0] + self._window_seconds - now
        self._granted.append((now, clerk_id))
        self._of_one.setdefault(clerk_id, of_user).append(now)
        return 0.0

    def _drop_expired(self, now: float) -> None:
        while self._granted and self._granted[0][0] <= now - self._window_seconds:
            _, clerk_id = self._granted.popleft()
            self._of_one[clerk_id].popleft()
            if not self._of_one[clerk_id]:
                del self._of_one[clerk_id]
