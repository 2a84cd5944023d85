"""Whether Clerk is worth asking now, and how often it may be asked (pure: the clock is an argument, in seconds)."""

from collections import deque

# That many failures one after the other, and nobody waits for Clerk until the pause is over. Then one question is let
# through; the others wait for what becomes of it.
MOST_FAILURES = 5
PAUSE_SECONDS = 5.0
PROBE_SECONDS = 5.0


class Breaker:
    """Opens when Clerk fails or says that it has been asked too much."""

    def __init__(self) -> None:
        """Be closed."""
        self._failures = 0
        self._open_until = 0.0

    def seconds_open(self, now: float) -> float:
        """Return for how long not to ask; 0 is ask."""
        return max(0.0, self._open_until - now)

    def asks(self, now: float) -> None:
        """Note that a question goes out: after failures it is the only one until it is answered."""
        if self._failures >= MOST_FAILURES:
            self._open_until = now + PROBE_SECONDS

    def succeeded(self) -> None:
        """Close."""
        self._failures = 0
        self._open_until = 0.0

    def failed(self, now: float, pause: float | None = None) -> None:
        """Count a failure; with `pause`, do not ask before that, for Clerk has said so."""
        self._failures += 1
        if pause is not None or self._failures >= MOST_FAILURES:
            self._open_until = max(self._open_until if pause is None else 0.0, now + (pause or PAUSE_SECONDS))


class Quota:
    """How often Clerk is asked: in all, and about one user. It remembers no more than it has granted of late."""

    def __init__(self, *, most: int, most_of_one: int = 10, seconds: float = 10.0) -> None:
        """Grant so many questions in any so many seconds."""
        self._most = most
        self._most_of_one = most_of_one
        self._seconds = seconds
        self._granted: deque[tuple[float, str]] = deque()
        self._of_one: dict[str, deque[float]] = {}

    def take(self, clerk_id: str, now: float) -> float:
        """Return 0 if the question is granted, else how many seconds until one will be."""
        while self._granted and self._granted[0][0] <= now - self._seconds:
            _, gone = self._granted.popleft()
            self._of_one[gone].popleft()
            if not self._of_one[gone]:
                del self._of_one[gone]
        of_one = self._of_one.get(clerk_id, deque())
        if len(of_one) >= self._most_of_one:
            return of_one[0] + self._seconds - now
        if len(self._granted) >= self._most:
            return self._granted[0][0] + self._seconds - now
        self._granted.append((now, clerk_id))
        self._of_one.setdefault(clerk_id, of_one).append(now)
        return 0.0
