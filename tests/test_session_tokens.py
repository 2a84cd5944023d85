"""Session tokens: valid ones are accepted and all others refused; the key set is fetched and cached."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from sync_service.clerk.jwks import JwksCache, StaticKey
from sync_service.clerk.session_tokens import SessionTokenVerifier
from sync_service.errors import ClerkUnavailable
from sync_service.request_errors import BadToken
from sync_service.settings import Settings
from sync_service.web.components import create_key_source
from tests.clerk_stub import ISSUER, PUBLISHABLE_KEY, SECRET_KEY, ClerkStub, export_public_key, make_session_token
from tests.forged_tokens import forge_tokens
from tests.world import INSTANCE, wait_until

GIVEN = StaticKey(export_public_key())


def make_verifier(**changes: Any) -> SessionTokenVerifier:
    rules: dict[str, Any] = {"keys": GIVEN, "issuer": ISSUER, "parties": (), "instance_id": INSTANCE} | changes
    return SessionTokenVerifier(rules.pop("keys"), **rules)


async def test_a_session_token_names_its_user() -> None:
    found = await make_verifier().verify(make_session_token("user_1"))
    assert (found.clerk_id, found.instance_id) == ("user_1", INSTANCE)


@pytest.mark.parametrize("what", forge_tokens())
async def test_a_forged_token_is_refused(what: str) -> None:
    """Every defect of a token, from its algorithm to its claims, is refused (H2, L1)."""
    with pytest.raises(BadToken):
        await make_verifier().verify(forge_tokens()[what])


@pytest.mark.parametrize("cat", ["cl_B7d4PD111AAA", "cl_I7d4PD111III", None])
async def test_the_categories_of_session_tokens_are_accepted(cat: str | None) -> None:
    """Tokens from before the categories have none."""
    await make_verifier().verify(make_session_token("user_1", cat=cat))


@pytest.mark.parametrize("aud", ["convex", ["convex"], 7, {}])
async def test_the_audience_is_ignored(clerk: ClerkStub, key_set: JwksCache, aud: object) -> None:
    """Clerk's Convex integration sets it in session tokens; a cold key set checks the claims without a signature."""
    await make_verifier().verify(make_session_token("user_1", aud=aud))
    await make_verifier(keys=key_set).verify(make_session_token("user_1", aud=aud))


async def test_a_setting_allows_a_longer_lifetime() -> None:
    now = int(time.time())
    await make_verifier().verify(make_session_token("user_1", exp=now + 86_400))
    long = make_session_token("user_1", exp=now + 86_402)
    with pytest.raises(BadToken):
        await make_verifier().verify(long)
    await make_verifier(max_lifetime=timedelta(days=2)).verify(long)


async def test_a_clock_difference_of_five_seconds_is_allowed() -> None:
    now = int(time.time())
    await make_verifier().verify(make_session_token("user_1", exp=now - 3))
    await make_verifier().verify(make_session_token("user_1", nbf=now + 3))


async def test_random_text_is_refused() -> None:
    """5,000 random texts and 5,000 valid tokens with a few changed characters are refused."""
    chance = random.Random(4)
    rules = make_verifier()
    good = make_session_token("user_1")
    for number in range(10_000):
        if number % 2:
            text = "".join(map(chr, chance.choices(range(1, 0x2FF), k=chance.randrange(200))))
        else:
            letters = list(good)
            for _ in range(chance.randrange(1, 5)):
                letters[chance.randrange(len(letters))] = chr(chance.randrange(33, 127))
            text = "".join(letters)
            # Base64 ignores the spare bits of the last character, so several texts encode one signature.
            if text[:-1] == good[:-1]:
                continue
        with pytest.raises(BadToken):
            await rules.verify(text)


async def test_with_authorized_parties_a_token_must_name_one() -> None:
    """The rule is that of Clerk's SDKs; a trailing slash in the setting is ignored."""
    rules = make_verifier(parties=("https://app.example.com/", "https://b.example.com"))
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
    await make_verifier().verify(make_session_token("user_1", azp=None))


async def test_a_key_without_an_issuer_is_enough() -> None:
    """`CLERK_JWT_KEY` belongs to one instance, so a valid signature proves the token's instance."""
    rules = make_verifier(issuer=None, instance_id=None)
    await rules.verify(make_session_token("user_1", iss="https://other.example"))
    for iss in (None, "", "clerk", 7):
        with pytest.raises(BadToken):
            await rules.verify(make_session_token("user_1", iss=iss))
    with pytest.raises(BadToken):
        await rules.verify(make_session_token("user_1", signer="mallory"))


# --- the key set --------------------------------------------------------------------------------------------------


class Clock:
    """A clock that the test sets."""

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
def key_set(clerk: ClerkStub, client: httpx2.AsyncClient, clock: Clock) -> JwksCache:
    return JwksCache(client, f"{clerk.url}/.well-known/jwks.json", {}, clock=clock)


async def test_a_key_set_is_fetched_once_and_kept(clerk: ClerkStub, key_set: JwksCache) -> None:
    rules = make_verifier(keys=key_set)
    await asyncio.gather(*(rules.verify(make_session_token("user_1")) for _ in range(50)))
    assert clerk.jwks_calls == 1


async def test_a_cached_key_set_is_used_while_clerk_is_unreachable(
    clerk: ClerkStub, key_set: JwksCache, clock: Clock
) -> None:
    """With a warm cache tokens are verified; refreshes in the background stay within their limit (L4)."""
    rules = make_verifier(keys=key_set)
    await rules.verify(make_session_token("user_1"))
    clerk.jwks_fails = True
    clock.now += 86_400

    async def has_refreshed_twice() -> bool:
        await rules.verify(make_session_token("user_1"))
        return clerk.jwks_calls == 3

    await wait_until(has_refreshed_twice)  # two attempts in a minute, in the background
    for _ in range(20):
        await rules.verify(make_session_token("user_1"))
        await asyncio.sleep(0)
    assert clerk.jwks_calls == 3


async def test_without_any_key_clerk_is_unavailable(clerk: ClerkStub, key_set: JwksCache, clock: Clock) -> None:
    """With a cold cache every token raises ClerkUnavailable; fetches are spaced, and a later one succeeds (L4)."""
    clerk.jwks_fails = True
    rules = make_verifier(keys=key_set)
    for _ in range(20):
        with pytest.raises(ClerkUnavailable):
            await rules.verify(make_session_token("user_1"))
    assert clerk.jwks_calls == 1
    clerk.jwks_fails = False
    clock.now += 1
    await rules.verify(make_session_token("user_1"))


async def test_many_unknown_keys_cause_two_fetches_a_minute(clerk: ClerkStub, key_set: JwksCache, clock: Clock) -> None:
    """1,000 tokens, each with another unknown key ID, cause two fetches in a minute (L4)."""
    rules = make_verifier(keys=key_set, instance_id=None)
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


async def test_a_new_key_is_found_and_an_old_one_removed(clerk: ClerkStub, key_set: JwksCache, clock: Clock) -> None:
    """After a rotation the new key is fetched and tokens of the old one are refused."""
    rules = make_verifier(keys=key_set, instance_id=None)
    await rules.verify(make_session_token("user_1", kid=INSTANCE))
    clerk.kids = {"key_2": "newer"}
    await rules.verify(make_session_token("user_1", kid="key_2", signer="newer"))
    with pytest.raises(BadToken):
        await rules.verify(make_session_token("user_1", kid=INSTANCE))


async def test_a_cached_token_ends_with_its_expiry_or_its_key(
    clerk: ClerkStub, key_set: JwksCache, clock: Clock
) -> None:
    """The cache keeps a verified token only until its expiry or the removal of its key."""
    rules = make_verifier(keys=key_set)
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
    short = make_session_token("user_1", signer="newer", exp=int(time.time()) - 1)
    await rules.verify(short)  # within the leeway
    assert all(
        seen.expires_at < time.time() for seen in rules._cache.values() if seen.key is key_set.get_cached(INSTANCE)
    )


async def test_the_cache_of_verified_tokens_is_bounded(key_set: JwksCache) -> None:
    rules = make_verifier(keys=key_set, max_cached_tokens=3)
    for number in range(10):
        await rules.verify(make_session_token(f"user_{number}"))
    assert len(rules._cache) <= 3


async def test_an_old_key_set_is_refreshed_in_the_background(
    clerk: ClerkStub, key_set: JwksCache, clock: Clock
) -> None:
    rules = make_verifier(keys=key_set)
    await rules.verify(make_session_token("user_1"))
    clock.now += 301
    with clerk.hold():
        await rules.verify(make_session_token("user_1"))
        await wait_until(lambda: clerk.open_calls)
    await key_set.refresh()
    assert clerk.jwks_calls == 2


async def test_a_foreign_or_expired_token_causes_no_fetch(clerk: ClerkStub, key_set: JwksCache) -> None:
    """A token with a defect that needs no key to detect is refused before the key set is fetched (H2)."""
    rules = make_verifier(keys=key_set)
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
async def test_an_invalid_key_set_is_refused(client: httpx2.AsyncClient, answer: bytes) -> None:
    def transport(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=answer)

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(transport)) as odd:
        with pytest.raises(ClerkUnavailable):
            await make_verifier(keys=JwksCache(odd, "https://k.example", {})).verify(make_session_token("user_1"))


async def test_the_settings_select_the_source_of_the_keys(clerk: ClerkStub, client: httpx2.AsyncClient) -> None:
    assert create_key_source(Settings(), client) is None
    assert isinstance(
        create_key_source(Settings(clerk_jwt_key=export_public_key(), clerk_issuer=ISSUER), client), StaticKey
    )
    for settings, url in (
        (Settings(clerk_publishable_key=PUBLISHABLE_KEY), "https://clerk.example.com/.well-known/jwks.json"),
        (Settings(clerk_issuer="https://i.example"), "https://i.example/.well-known/jwks.json"),
        (Settings(clerk_jwks_url="https://k.example", clerk_publishable_key=PUBLISHABLE_KEY), "https://k.example"),
        (Settings(clerk_secret_key=SECRET_KEY), "https://api.clerk.com/v1/jwks"),
    ):
        found = create_key_source(settings, client)
        assert isinstance(found, JwksCache)
        assert found._url == url
    by_secret = create_key_source(Settings(clerk_secret_key=SECRET_KEY, clerk_api_url=clerk.url), client)
    assert by_secret
    await make_verifier(keys=by_secret).verify(make_session_token("user_1"))
