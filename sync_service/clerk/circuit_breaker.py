"""Circuit breaker for requests to Clerk (pure: the clock is an argument, in seconds).

https://learn.microsoft.com/azure/architecture/patterns/circuit-breaker
"""

# After so many failures in a row, no request is sent until the pause is over. Then a single probe is sent, and other
# callers wait for its result.
MAX_FAILURES = 5
PAUSE = 5.0
PROBE_TIMEOUT = 5.0


class CircuitBreaker:
    """Opens when Clerk fails, or when it responds that there were too many requests."""

    def __init__(self) -> None:
        self._failures = 0
        self._open_until = 0.0

    def retry_after(self, now: float) -> float:
        """Return the seconds until a request may be sent; 0 means now."""
        return max(0.0, self._open_until - now)

    def record_request(self, now: float) -> None:
        """Record that a request is sent. After failures it is the probe, and no other request is sent meanwhile."""
        if self._failures >= MAX_FAILURES:
            self._open_until = now + PROBE_TIMEOUT

    def record_success(self) -> None:
        """Close the circuit breaker."""
        self._failures = 0
        self._open_until = 0.0

    def record_failure(self, now: float, pause: float | None = None) -> None:
        """Count a failure. With `pause`, from Clerk's Retry-After, open for so many seconds at once."""
        self._failures += 1
        if pause is not None or self._failures >= MAX_FAILURES:
            self._open_until = max(self._open_until if pause is None else 0.0, now + (pause or PAUSE))
