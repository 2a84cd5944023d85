"""The circuit breaker and the rate limit for calls to Clerk's API; the clock is an argument."""

from sync_service.clerk.breaker import MOST_FAILURES, PAUSE_SECONDS, Breaker, Quota


def test_failures_open_the_breaker_and_a_success_closes_it() -> None:
    breaker = Breaker()
    for _ in range(MOST_FAILURES - 1):
        breaker.failed(100)
        assert breaker.seconds_open(100) == 0
    breaker.succeeded()
    for _ in range(MOST_FAILURES):
        assert breaker.seconds_open(100) == 0
        breaker.failed(100)
    assert breaker.seconds_open(100) == PAUSE_SECONDS
    assert breaker.seconds_open(100 + PAUSE_SECONDS) == 0
    breaker.asks(100 + PAUSE_SECONDS)
    assert breaker.seconds_open(100 + PAUSE_SECONDS) > 0
    breaker.succeeded()
    assert breaker.seconds_open(100 + PAUSE_SECONDS) == 0


def test_a_retry_after_of_clerk_opens_the_breaker_at_once() -> None:
    breaker = Breaker()
    breaker.failed(100, 30)
    assert breaker.seconds_open(100) == 30
    assert breaker.seconds_open(129) == 1
    assert breaker.seconds_open(130) == 0
    breaker.asks(130)
    assert breaker.seconds_open(130) == 0


def test_a_failed_probe_opens_the_breaker_again() -> None:
    breaker = Breaker()
    for _ in range(MOST_FAILURES):
        breaker.failed(100)
    breaker.asks(200)
    breaker.failed(201)
    assert breaker.seconds_open(201) >= PAUSE_SECONDS - 1
    assert breaker.seconds_open(210) == 0


def test_there_is_a_limit_per_user_and_one_for_all_users() -> None:
    quota = Quota(most=5, most_of_one=3, seconds=10)
    assert [quota.take("user_1", 100 + n) for n in range(4)] == [0, 0, 0, 7]
    assert quota.take("user_2", 103) == 0
    assert quota.take("user_3", 104) == 0
    assert quota.take("user_4", 105) == 5
    assert quota.take("user_4", 110) == 0  # the first call is ten seconds old
    assert quota.take("user_1", 112.5) == 0


def test_the_quota_stores_only_the_calls_that_it_granted() -> None:
    """Memory is bounded by the limit, for any number of users."""
    quota = Quota(most=100)
    for number in range(100_000):
        quota.take(f"user_{number}", number / 1000)
        assert len(quota._granted) <= 100
    assert len(quota._of_one) <= 100
    quota.take("user_last", 10_000)
    assert len(quota._of_one) == 1
