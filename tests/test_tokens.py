"""Session tokens: who is let in, and that nothing else is, whatever it is made of (SCENARIOS L1, L4, H2)."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from sync_service.clerk.keys import GivenKey, KeySet, keys_of
from sync_service.clerk.tokens import SessionTokens
from sync_service.errors import BadToken, ClerkUnavailable
from sync_service.settings import Settings
from tests.clerk_stub import ISSUER, PUBLISHABLE_KEY, SECRET_KEY, ClerkStub, export_public_key, make_session_token
from tests.forged_tokens import forge_tokens
from tests.world import INSTANCE, wait_until

GIVEN = GivenKey(export_public_key())


def tokens(**changes: Any) -> SessionTokens:
    rules: dict[str, Any] = {"keys": GIVEN, "issuer": ISSUER, "parties": (), "instance_id": INSTANCE} | changes
    return SessionTokens(rules.pop("keys"), **rules)


async def test_a_session_token_says_whose_it_is() -> None:
    found = await tokens().verify(make_session_token("user_1"))
    assert (found.clerk_id, found.instance_id) == ("user_1", INSTANCE)


@pytest.mark.parametrize("what", forge_tokens())
async def test_what_is_no_session_token_of_ours_is_refused(what: str) -> None:
    """L1, H2."""
    with pytest.raises(BadToken):
        await tokens().verify(forge_tokens()[what])


async def test_five_seconds_of_clocks_apart_are_allowed() -> None:
    now = int(time.time())
    await tokens().verify(make_session_token("user_1", exp=now - 3))
    await tokens().verify(make_session_token("user_1", nbf=now + 3))


async def test_random_text_is_refused_and_breaks_nothing() -> None:
    """10,000 of them: some of noise, some of a genuine token with a few characters changed."""
    chance = random.Random(4)
    rules = tokens()
    good = make_session_token("user_1")
    for number in range(10_000):
        if number % 2:
            text = "".join(map(chr, chance.choices(range(1, 0x2FF), k=chance.randrange(200))))
        else:
            letters = list(good)
            for _ in range(chance.randrange(1, 5)):
                letters[chance.randrange(len(letters))] = chr(chance.randrange(33, 127))
            text = "".join(letters)
            # The last characters' spare bits say nothing: base64 has several spellings of one signature.
            if text[:-1] == good[:-1]:
                continue
        with pytest.raises(BadToken):
            await rules.verify(text)


async def test_once_parties_are_authorized_a_token_names_one() -> None:
    """As Clerk's SDKs do; a slash at the end of the setting is no matter."""
    rules = tokens(parties=("https://app.example.com/", "https://b.example.com"))
    await rules.verify(make_session_token("user_1"))
    for azp in (
        "https://mallory.example",
        None,
        "",
        "https://app.example.com.mallory.example",
        ["https://b.example.com"],
    ):
        with pytest.raises(BadToken):
            await rules.verify(make_session_token("user_1", azp=azp))
    await tokens().verify(make_session_token("user_1", azp=None))


async def test_a_key_without_an_issuer_binds_by_itself() -> None:
    """With `CLERK_JWT_KEY` alone: the key is one instance's, so its signature says whose the token is."""
    rules = tokens(issuer=None, instance_id=None)
    await rules.verify(make_session_token("user_1", iss="https://other.example"))
    for iss in (None, "", "clerk", 7):
        with pytest.raises(BadToken):
            await rules.verify(make_session_token("user_1", iss=iss))
    with pytest.raises(BadToken):
        await rules.verify(make_session_token("user_1", signer="mallory"))


# --- the key set --------------------------------------------------------------------------------------------------


class Clock:
    """A clock that tests set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient() as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def key_set(clerk: ClerkStub, client: httpx2.AsyncClient, clock: Clock) -> KeySet:
    return KeySet(client, f"{clerk.url}/.well-known/jwks.json", {}, clock=clock)


async def test_a_key_set_is_fetched_once_and_kept(clerk: ClerkStub, key_set: KeySet) -> None:
    rules = tokens(keys=key_set)
    await asyncio.gather(*(rules.verify(make_session_token("user_1")) for _ in range(50)))
    assert clerk.jwks_calls == 1


async def test_a_key_set_is_used_while_clerk_is_away(clerk: ClerkStub, key_set: KeySet, clock: Clock) -> None:
    """L4, warm."""
    rules = tokens(keys=key_set)
    await rules.verify(make_session_token("user_1"))
    clerk.jwks_fails = True
    clock.now += 86_400
    for _ in range(20):
        await rules.verify(make_session_token("user_1"))
        await asyncio.sleep(0.005)
    assert clerk.jwks_calls == 3  # two attempts in a minute, behind the answers


async def test_without_any_key_a_token_can_be_neither_taken_nor_refused(
    clerk: ClerkStub, key_set: KeySet, clock: Clock
) -> None:
    """L4, cold; it recovers by itself, and does not ask at every request."""
    clerk.jwks_fails = True
    rules = tokens(keys=key_set)
    for _ in range(20):
        with pytest.raises(ClerkUnavailable):
            await rules.verify(make_session_token("user_1"))
    assert clerk.jwks_calls == 1
    clerk.jwks_fails = False
    clock.now += 1
    await rules.verify(make_session_token("user_1"))


async def test_a_storm_of_unknown_keys_makes_two_fetches_a_minute(
    clerk: ClerkStub, key_set: KeySet, clock: Clock
) -> None:
    """L4: 1,000 tokens that each name another key."""
    rules = tokens(keys=key_set, instance_id=None)
    await rules.verify(make_session_token("user_1"))
    storm = [make_session_token("user_1", kid=f"key_{number}") for number in range(1000)]
    for token in storm:
        with pytest.raises(BadToken):
            await rules.verify(token)
    assert clerk.jwks_calls == 2
    clock.now += 61
    for token in storm:
        with pytest.raises(BadToken):
            await rules.verify(token)
    assert clerk.jwks_calls == 4


async def test_a_new_key_is_found_and_an_old_one_dropped(clerk: ClerkStub, key_set: KeySet, clock: Clock) -> None:
    """Rotation."""
    rules = tokens(keys=key_set, instance_id=None)
    await rules.verify(make_session_token("user_1", kid=INSTANCE))
    clerk.kids = {"key_2": "newer"}
    await rules.verify(make_session_token("user_1", kid="key_2", signer="newer"))
    with pytest.raises(BadToken):
        await rules.verify(make_session_token("user_1", kid=INSTANCE))


async def test_a_token_seen_before_is_over_when_it_expires_or_its_key_is_gone(
    clerk: ClerkStub, key_set: KeySet, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was verified is remembered, and no longer than it is true."""
    rules = tokens(keys=key_set)
    token = make_session_token("user_1")
    for _ in range(3):
        assert (await rules.verify(token)).clerk_id == "user_1"
    with pytest.raises(BadToken):
        await rules.verify(token[:-2] + ("AA" if token[-2:] != "AA" else "BB"))
    clerk.kids = {INSTANCE: "newer"}
    clock.now += 400
    await key_set.refresh()
    with pytest.raises(BadToken):
        await rules.verify(token)
    short = make_session_token("user_1", signer="newer", exp=int(time.time()) - 4)
    await rules.verify(short)  # within the leeway
    assert all(seen.expires_at < time.time() for seen in rules._seen.values() if seen.key is key_set.known(INSTANCE))
    monkeypatch.setattr("sync_service.clerk.tokens.MOST_SEEN", 3)
    for number in range(10):
        await rules.verify(make_session_token(f"user_{number}", signer="newer"))
    assert len(rules._seen) <= 3


async def test_an_old_set_is_fetched_behind_the_answer(clerk: ClerkStub, key_set: KeySet, clock: Clock) -> None:
    rules = tokens(keys=key_set)
    await rules.verify(make_session_token("user_1"))
    clock.now += 301
    with clerk.hold():
        await rules.verify(make_session_token("user_1"))
        await wait_until(lambda: clerk.open_calls)
    await key_set.refresh()
    assert clerk.jwks_calls == 2


async def test_what_is_foreign_or_over_costs_no_question(clerk: ClerkStub, key_set: KeySet) -> None:
    """H2, and the forged tokens, before any key is there: those that can be told without one are."""
    rules = tokens(keys=key_set)
    needs_key = {"another's key", "tampered sub", "tampered exp", "a key of its own"}
    for what, token in forge_tokens().items():
        if what not in needs_key:
            with pytest.raises(BadToken):
                await rules.verify(token)
    assert clerk.requests == []


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"null",
        b"[]",
        b'{"keys": null}',
        b'{"keys": []}',
        b'{"keys": [7, {}, {"kty": "RSA", "kid": "k"}, {"kty": "oct", "kid": "k", "k": "AA"}]}',
        b'{"keys": [{"kty": "RSA", "kid": "k", "n": "AQAB", "e": "AQAB"}]}',
        b"[" * 100_000,
    ],
)
async def test_what_is_no_key_set_is_not_taken_for_one(client: httpx2.AsyncClient, answer: bytes) -> None:
    def transport(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=answer)

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(transport)) as odd:
        with pytest.raises(ClerkUnavailable):
            await tokens(keys=KeySet(odd, "https://k.example", {})).verify(make_session_token("user_1"))


async def test_the_settings_lead_to_the_keys(clerk: ClerkStub, client: httpx2.AsyncClient) -> None:
    assert keys_of(Settings(), client) is None
    assert isinstance(keys_of(Settings(clerk_jwt_key=export_public_key(), clerk_issuer=ISSUER), client), GivenKey)
    for settings, url in (
        (Settings(clerk_publishable_key=PUBLISHABLE_KEY), "https://clerk.example.com/.well-known/jwks.json"),
        (Settings(clerk_issuer="https://i.example"), "https://i.example/.well-known/jwks.json"),
        (Settings(clerk_jwks_url="https://k.example", clerk_publishable_key=PUBLISHABLE_KEY), "https://k.example"),
        (Settings(clerk_secret_key=SECRET_KEY), "https://api.clerk.com/v1/jwks"),
    ):
        found = keys_of(settings, client)
        assert isinstance(found, KeySet)
        assert found._url == url
    by_secret = keys_of(Settings(clerk_secret_key=SECRET_KEY, clerk_api_url=clerk.url), client)
    assert by_secret
    await tokens(keys=by_secret).verify(make_session_token("user_1"))
