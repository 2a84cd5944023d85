"""The circuit breaker and the rate limit for calls to Clerk's API; the clock is an argument."""

from sync_service.clerk.circuit_breaker import MAX_FAILURES, PAUSE, CircuitBreaker
from sync_service.clerk.rate_limit import RateLimiter


def test_failures_open_the_breaker_and_a_success_closes_it() -> None:
    breaker = CircuitBreaker()
    for _ in range(MAX_FAILURES - 1):
        breaker.record_failure(100)
        assert breaker.retry_after(100) == 0
    breaker.record_success()
    for _ in range(MAX_FAILURES):
        assert breaker.retry_after(100) == 0
        breaker.record_failure(100)
    assert breaker.retry_after(100) == PAUSE
    assert breaker.retry_after(100 + PAUSE) == 0
    breaker.record_request(100 + PAUSE)
    assert breaker.retry_after(100 + PAUSE) > 0
    breaker.record_success()
    assert breaker.retry_after(100 + PAUSE) == 0


def test_a_retry_after_of_clerk_opens_the_breaker_at_once() -> None:
    breaker = CircuitBreaker()
    breaker.record_failure(100, 30)
    assert breaker.retry_after(100) == 30
    assert breaker.retry_after(129) == 1
    assert breaker.retry_after(130) == 0
    breaker.record_request(130)
    assert breaker.retry_after(130) == 0


def test_a_failed_probe_opens_the_breaker_again() -> None:
    breaker = CircuitBreaker()
    for _ in range(MAX_FAILURES):
        breaker.record_failure(100)
    breaker.record_request(200)
    breaker.record_failure(201)
    assert breaker.retry_after(201) >= PAUSE - 1
    assert breaker.retry_after(210) == 0


def test_there_is_a_limit_per_user_and_one_for_all_users() -> None:
    quota = RateLimiter(max_requests=5, max_requests_per_user=3, window=10)
    assert [quota.acquire("user_1", 100 + n) for n in range(4)] == [0, 0, 0, 7]
    assert quota.acquire("user_2", 103) == 0
    assert quota.acquire("user_3", 104) == 0
    assert quota.acquire("user_4", 105) == 5
    assert quota.acquire("user_4", 110) == 0  # the first call is ten seconds old
    assert quota.acquire("user_1", 112.5) == 0


def test_the_quota_stores_only_the_calls_that_it_granted() -> None:
    """Memory is bounded by the limit, for any number of users."""
    quota = RateLimiter(max_requests=100)
    for number in range(100_000):
        quota.acquire(f"user_{number}", number / 1000)
        assert len(quota._granted) <= 100
    assert len(quota._granted_per_user) <= 100
    quota.acquire("user_last", 10_000)
    assert len(quota._granted_per_user) == 1
