"""Limits the requests to Clerk, in total and about one user (pure: the clock is an argument, in seconds)."""

from collections import deque


class RateLimiter:
    """A sliding window over the requests that were granted. Its memory is bounded by that number."""

    def __init__(self, *, max_requests: int, max_requests_per_user: int = 10, window: float = 10.0) -> None:
        """Grant so many requests in any `window` seconds."""
        self._max_requests = max_requests
        self._max_requests_per_user = max_requests_per_user
        self._window = window
        self._granted: deque[tuple[float, str]] = deque()
        self._granted_per_user: dict[str, deque[float]] = {}

    def acquire(self, clerk_id: str, now: float) -> float:
        """Return 0 if the request is granted, else the seconds until one will be."""
        self._forget_old(now)
        of_user = self._granted_per_user.get(clerk_id, deque())
        if len(of_user) >= self._max_requests_per_user:
            return of_user[0] + self._window - now
        if len(self._granted) >= self._max_requests:
            return self._granted[0][0] + self._window - now
        self._granted.append((now, clerk_id))
        self._granted_per_user.setdefault(clerk_id, of_user).append(now)
        return 0.0

    def count_remaining(self, now: float) -> int:
        """Return the number of requests that would be granted now, about users without a recent one."""
        self._forget_old(now)
        return self._max_requests - len(self._granted)

    def _forget_old(self, now: float) -> None:
        while self._granted and self._granted[0][0] <= now - self._window:
            _, user = self._granted.popleft()
            self._granted_per_user[user].popleft()
            if not self._granted_per_user[user]:
                del self._granted_per_user[user]
