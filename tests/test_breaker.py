"""When Clerk is worth asking, and how often: values and a clock that is an argument."""

from sync_service.clerk.breaker import MOST_FAILURES, PAUSE_SECONDS, Breaker, Quota


def test_a_few_failures_open_it_and_a_success_closes_it() -> None:
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


def test_what_clerk_says_of_its_quota_is_heeded_at_once() -> None:
    breaker = Breaker()
    breaker.failed(100, 30)
    assert breaker.seconds_open(100) == 30
    assert breaker.seconds_open(129) == 1
    assert breaker.seconds_open(130) == 0
    breaker.asks(130)
    assert breaker.seconds_open(130) == 0


def test_a_probe_that_fails_opens_it_again() -> None:
    breaker = Breaker()
    for _ in range(MOST_FAILURES):
        breaker.failed(100)
    breaker.asks(200)
    breaker.failed(201)
    assert breaker.seconds_open(201) >= PAUSE_SECONDS - 1
    assert breaker.seconds_open(210) == 0


def test_a_user_has_a_share_of_the_quota_and_all_have_a_limit() -> None:
    quota = Quota(most=5, most_of_one=3, seconds=10)
    assert [quota.take("user_1", 100 + n) for n in range(4)] == [0, 0, 0, 7]
    assert quota.take("user_2", 103) == 0
    assert quota.take("user_3", 104) == 0
    assert quota.take("user_4", 105) == 5
    assert quota.take("user_4", 110) == 0  # the first is ten seconds ago
    assert quota.take("user_1", 112.5) == 0


def test_the_quota_remembers_what_it_has_granted_and_nothing_else() -> None:
    """Whatever comes, and from however many."""
    quota = Quota(most=100)
    for number in range(100_000):
        quota.take(f"user_{number}", number / 1000)
        assert len(quota._granted) <= 100
    assert len(quota._of_one) <= 100
    quota.take("user_last", 10_000)
    assert len(quota._of_one) == 1
