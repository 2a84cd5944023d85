"""The signed cookie, its CSRF token, and the limit on failed logins; without a server."""

import pytest

from sync_service.web.ops.login_limit import MAX_ADDRESSES, MAX_FAILURES, LoginLimit
from sync_service.web.ops.sessions import SESSION_LIFETIME, Session, SessionKeys

KEYS = SessionKeys("a token of sixteen characters")
NOW = 1_769_860_800.0


def test_a_session_is_valid_for_each_process_with_the_token_until_it_expires() -> None:
    session = KEYS.create(NOW, b"0" * 16)
    value = KEYS.sign(session)
    for keys in (KEYS, SessionKeys("a token of sixteen characters")):
        assert keys.verify(value, NOW) == session
        assert keys.verify(value, NOW + SESSION_LIFETIME - 1) == session
        assert keys.verify(value, NOW + SESSION_LIFETIME) is None
    assert SessionKeys("another token of the operators").verify(value, NOW) is None


def test_a_session_cannot_be_changed() -> None:
    value = KEYS.sign(KEYS.create(NOW, b"0" * 16))
    expires_at, nonce, signature = value.split(".")
    other_nonce = KEYS.create(NOW, b"1" * 16).nonce
    for forged in (
        "",
        f"{int(expires_at) + 1}.{nonce}.{signature}",
        f"0{expires_at}.{nonce}.{signature}",
        f"{expires_at}.{other_nonce}.{signature}",
        f"{expires_at}.{nonce}.{signature[:-1]}",
        f"{expires_at}.{nonce}.{signature}=",
        f"{expires_at}.{nonce}.{'A' * 43}",
        f"{expires_at}.{nonce}",
        value.upper(),
        "ä" * 80,
    ):
        assert KEYS.verify(forged, NOW) is None, forged


def test_a_csrf_token_belongs_to_one_session_and_is_not_its_signature() -> None:
    session, other = KEYS.create(NOW, b"0" * 16), KEYS.create(NOW, b"1" * 16)
    token = KEYS.create_csrf_token(session)
    assert KEYS.is_csrf_token(session, token)
    assert not KEYS.is_csrf_token(other, token)
    assert not KEYS.is_csrf_token(Session(session.expires_at + 1, session.nonce), token)
    assert not SessionKeys("another token of the operators").is_csrf_token(session, token)
    assert token not in KEYS.sign(session)
    for wrong in ("", token[:-1], "ä", "\udc80", KEYS.sign(session).rpartition(".")[2]):
        assert not KEYS.is_csrf_token(session, wrong)


def test_an_address_waits_after_ten_failures_within_a_minute() -> None:
    limit = LoginLimit()
    for number in range(MAX_FAILURES):
        assert limit.seconds_to_wait("192.0.2.1", number) == 0
        limit.add_failure("192.0.2.1", number)
    assert limit.seconds_to_wait("192.0.2.1", 9.5) == 51
    assert limit.seconds_to_wait("192.0.2.2", 9.5) == 0
    assert limit.seconds_to_wait("192.0.2.1", 59.9) == 1
    assert limit.seconds_to_wait("192.0.2.1", 60) == 0
    limit.add_failure("192.0.2.1", 60)
    assert limit.seconds_to_wait("192.0.2.1", 60.5) == 1


def test_many_addresses_take_no_more_memory() -> None:
    limit = LoginLimit()
    for number in range(MAX_ADDRESSES + 100):
        for _ in range(MAX_FAILURES):
            limit.add_failure(f"2001:db8::{number:x}", 0)
    assert len(limit._failures) == MAX_ADDRESSES
    assert limit.seconds_to_wait(f"2001:db8::{MAX_ADDRESSES + 99:x}", 1) == 59


@pytest.mark.parametrize("count", [0, 1, 9])
def test_fewer_failures_cost_no_time(count: int) -> None:
    limit = LoginLimit()
    for _ in range(count):
        limit.add_failure("192.0.2.1", 0)
    assert limit.seconds_to_wait("192.0.2.1", 0) == 0
