"""Session tokens: who is let in, and that nothing else is, whatever it is made of (SCENARIOS L1, L4, H2)."""

import asyncio
import base64
import json
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sync_service.clerk.keys import GivenKey, KeySet, keys_of
from sync_service.clerk.tokens import SessionTokens
from sync_service.errors import BadToken, ClerkUnavailable
from sync_service.settings import Settings
from tests.clerk_stub import ISSUER, PUBLISHABLE_KEY, SECRET_KEY, ClerkStub, claims, key, public_pem, session_token
from tests.world import INSTANCE

GIVEN = GivenKey(public_pem())
OTHER_INSTANCE = "ins_2otherotherotherotherother"


def tokens(**changes: Any) -> SessionTokens:
    rules: dict[str, Any] = {"keys": GIVEN, "issuer": ISSUER, "parties": (), "instance_id": INSTANCE} | changes
    return SessionTokens(rules.pop("keys"), **rules)


def signed(payload: object, header: dict[str, Any] | None = None, signer: str = "clerk") -> str:
    """Return a token with just that payload and header, genuinely signed."""
    said = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return jwt.PyJWS().encode(said, key(signer), algorithm="RS256", headers={"kid": INSTANCE} | (header or {}))


def unsigned(header: object, payload: object, signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(payload).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def by_hmac() -> str:
    """Return a token signed by HS256 with the public key's PEM as the secret, the oldest trick."""
    import hashlib  # noqa: PLC0415  PyJWT itself refuses to make one
    import hmac  # noqa: PLC0415

    said = unsigned({"alg": "HS256", "typ": "JWT", "kid": INSTANCE}, claims("user_1")).rpartition(".")[0]
    signature = hmac.new(public_pem().encode(), said.encode(), hashlib.sha256).digest()
    return f"{said}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def tampered(**changes: Any) -> str:
    """Return a genuine token whose payload was exchanged."""
    header, _, signature = session_token("user_1").split(".")
    body = base64.urlsafe_b64encode(json.dumps(claims("user_1") | changes).encode()).decode().rstrip("=")
    return f"{header}.{body}.{signature}"


def forged() -> dict[str, str]:
    """Return tokens that must be refused, by what is wrong with them; some only for the next half a minute."""
    now = int(time.time())
    private = key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return {
        "none": unsigned({"alg": "none", "typ": "JWT", "kid": INSTANCE}, claims("user_1")),
        "None": unsigned({"alg": "None", "typ": "JWT", "kid": INSTANCE}, claims("user_1")),
        "no alg": unsigned({"typ": "JWT", "kid": INSTANCE}, claims("user_1"), b"x"),
        "hs256 with the public key": by_hmac(),
        "rs512": jwt.encode(claims("user_1"), key(), algorithm="RS512", headers={"kid": INSTANCE}),
        "ps256": jwt.encode(claims("user_1"), key(), algorithm="PS256", headers={"kid": INSTANCE}),
        "another's key": session_token("user_1", signer="mallory"),
        "another issuer": session_token("user_1", iss="https://clerk.mallory.example"),
        "another instance": session_token("user_1", kid=OTHER_INSTANCE),
        "expired": session_token("user_1", exp=now - 6, iat=now - 66, nbf=now - 76),
        "early": session_token("user_1", nbf=now + 30),
        "made in the future": session_token("user_1", iat=now + 60),
        "no exp": session_token("user_1", exp=None),
        "no nbf": session_token("user_1", nbf=None),
        "no iss": session_token("user_1", iss=None),
        "no sub": session_token("user_1", sub=None),
        "empty sub": session_token(""),
        "sub is a number": session_token("user_1", sub=7),
        "sub with a blank": session_token("user_1 or 1=1"),
        "sub with NUL": session_token("user_1\0"),
        "sub too long": session_token("user_" + "1" * 300),
        "a machine": session_token("mch_1"),
        "exp is a text": session_token("user_1", exp="soon"),
        "exp is a list": session_token("user_1", exp=[now + 60]),
        "exp is endless": signed(json.dumps(claims("user_1")).replace(str(now + 60), "1e999").encode()),
        "iss is a list": session_token("user_1", iss=[ISSUER]),
        "an audience": session_token("user_1", aud="https://elsewhere.example.com"),
        "pending": session_token("user_1", sts="pending"),
        "tampered sub": tampered(sub="user_2"),
        "tampered exp": tampered(exp=now + 3600),
        "an access token of oauth": signed(claims("user_1"), {"typ": "at+jwt"}),
        "critical extension": unsigned({"alg": "RS256", "kid": INSTANCE, "crit": ["b64"], "b64": False}, {}, b"x"),
        "kid is a number": unsigned({"alg": "RS256", "kid": 7}, claims("user_1"), b"x"),
        "a key of its own": signed(claims("user_1"), {"jwk": {"kty": "RSA"}, "jku": "https://m.example"}, "mallory"),
        "payload is a list": signed([1, 2]),
        "payload is a number": signed(b"7"),
        "payload is no JSON": signed(b"\xff\xfe"),
        "payload is deep": signed(b"[" * 4000 + b"]" * 4000),
        "header is a list": unsigned([], {}, b"x"),
        "oversized": session_token("user_1", more="x" * 9000),
        "two parts": "a.b",
        "four parts": session_token("user_1") + ".x",
        "empty parts": "..",
        "a blank in it": session_token("user_1").replace(".", ". ", 1),
        "api key": "ak_" + "x" * 40,
        "oauth token": "oat_" + "x" * 40,
        "m2m token": "m2m_" + "x" * 40,
        "machine token": "mt_" + "x" * 40,
        "our secret key": SECRET_KEY,
        "a private key": private.replace("\n", ""),
        "empty": "",
    }


async def test_a_session_token_says_whose_it_is() -> None:
    found = await tokens().verify(session_token("user_1"))
    assert (found.clerk_id, found.instance_id) == ("user_1", INSTANCE)


@pytest.mark.parametrize("what", forged())
async def test_what_is_no_session_token_of_ours_is_refused(what: str) -> None:
    """L1, H2."""
    with pytest.raises(BadToken):
        await tokens().verify(forged()[what])


async def test_five_seconds_of_clocks_apart_are_allowed() -> None:
    now = int(time.time())
    await tokens().verify(session_token("user_1", exp=now - 3))
    await tokens().verify(session_token("user_1", nbf=now + 3))


async def test_random_text_is_refused_and_breaks_nothing() -> None:
    """10,000 of them: some of noise, some of a genuine token with a few characters changed."""
    chance = random.Random(4)
    rules = tokens()
    good = session_token("user_1")
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
    await rules.verify(session_token("user_1"))
    for azp in (
        "https://mallory.example",
        None,
        "",
        "https://app.example.com.mallory.example",
        ["https://b.example.com"],
    ):
        with pytest.raises(BadToken):
            await rules.verify(session_token("user_1", azp=azp))
    await tokens().verify(session_token("user_1", azp=None))


async def test_a_key_without_an_issuer_binds_by_itself() -> None:
    """With `CLERK_JWT_KEY` alone: the key is one instance's, so its signature says whose the token is."""
    rules = tokens(issuer=None, instance_id=None)
    await rules.verify(session_token("user_1", iss="https://other.example"))
    for iss in (None, "", "clerk", 7):
        with pytest.raises(BadToken):
            await rules.verify(session_token("user_1", iss=iss))
    with pytest.raises(BadToken):
        await rules.verify(session_token("user_1", signer="mallory"))


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
    return KeySet(client, f"{clerk.address}/.well-known/jwks.json", {}, clock=clock)


async def test_a_key_set_is_fetched_once_and_kept(clerk: ClerkStub, key_set: KeySet) -> None:
    rules = tokens(keys=key_set)
    await asyncio.gather(*(rules.verify(session_token("user_1")) for _ in range(50)))
    assert clerk.key_calls == 1


async def test_a_key_set_is_used_while_clerk_is_away(clerk: ClerkStub, key_set: KeySet, clock: Clock) -> None:
    """L4, warm."""
    rules = tokens(keys=key_set)
    await rules.verify(session_token("user_1"))
    clerk.keys_fail = True
    clock.now += 86_400
    for _ in range(20):
        await rules.verify(session_token("user_1"))
        await asyncio.sleep(0.005)
    assert clerk.key_calls == 3  # two attempts in a minute, behind the answers


async def test_without_any_key_a_token_can_be_neither_taken_nor_refused(
    clerk: ClerkStub, key_set: KeySet, clock: Clock
) -> None:
    """L4, cold; it recovers by itself, and does not ask at every request."""
    clerk.keys_fail = True
    rules = tokens(keys=key_set)
    for _ in range(20):
        with pytest.raises(ClerkUnavailable):
            await rules.verify(session_token("user_1"))
    assert clerk.key_calls == 1
    clerk.keys_fail = False
    clock.now += 1
    await rules.verify(session_token("user_1"))


async def test_a_storm_of_unknown_keys_makes_two_fetches_a_minute(
    clerk: ClerkStub, key_set: KeySet, clock: Clock
) -> None:
    """L4: 1,000 tokens that each name another key."""
    rules = tokens(keys=key_set, instance_id=None)
    await rules.verify(session_token("user_1"))
    storm = [session_token("user_1", kid=f"key_{number}") for number in range(1000)]
    for token in storm:
        with pytest.raises(BadToken):
            await rules.verify(token)
    assert clerk.key_calls == 2
    clock.now += 61
    for token in storm:
        with pytest.raises(BadToken):
            await rules.verify(token)
    assert clerk.key_calls == 4


async def test_a_new_key_is_found_and_an_old_one_dropped(clerk: ClerkStub, key_set: KeySet, clock: Clock) -> None:
    """Rotation."""
    rules = tokens(keys=key_set, instance_id=None)
    await rules.verify(session_token("user_1", kid=INSTANCE))
    clerk.kids = {"key_2": "newer"}
    await rules.verify(session_token("user_1", kid="key_2", signer="newer"))
    with pytest.raises(BadToken):
        await rules.verify(session_token("user_1", kid=INSTANCE))


async def test_a_token_seen_before_is_over_when_it_expires_or_its_key_is_gone(
    clerk: ClerkStub, key_set: KeySet, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was verified is remembered, and no longer than it is true."""
    rules = tokens(keys=key_set)
    token = session_token("user_1")
    for _ in range(3):
        assert (await rules.verify(token)).clerk_id == "user_1"
    with pytest.raises(BadToken):
        await rules.verify(token[:-2] + ("AA" if token[-2:] != "AA" else "BB"))
    clerk.kids = {INSTANCE: "newer"}
    clock.now += 400
    await key_set.refresh()
    with pytest.raises(BadToken):
        await rules.verify(token)
    short = session_token("user_1", signer="newer", exp=int(time.time()) - 4)
    await rules.verify(short)  # within the leeway
    assert all(seen.expires_at < time.time() for seen in rules._seen.values() if seen.key is key_set.known(INSTANCE))
    monkeypatch.setattr("sync_service.clerk.tokens.MOST_SEEN", 3)
    for number in range(10):
        await rules.verify(session_token(f"user_{number}", signer="newer"))
    assert len(rules._seen) <= 3


async def test_an_old_set_is_fetched_behind_the_answer(clerk: ClerkStub, key_set: KeySet, clock: Clock) -> None:
    rules = tokens(keys=key_set)
    await rules.verify(session_token("user_1"))
    clock.now += 301
    clerk.delay = 0.2
    began = time.perf_counter()
    await rules.verify(session_token("user_1"))
    assert time.perf_counter() - began < 0.15
    await key_set.refresh()
    assert clerk.key_calls == 2


async def test_what_is_foreign_or_over_costs_no_question(clerk: ClerkStub, key_set: KeySet) -> None:
    """H2, and the forged tokens, before any key is there: those that can be told without one are."""
    rules = tokens(keys=key_set)
    needs_key = {"another's key", "tampered sub", "tampered exp", "a key of its own"}
    for what, token in forged().items():
        if what not in needs_key:
            with pytest.raises(BadToken):
                await rules.verify(token)
    assert clerk.asked == []


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
            await tokens(keys=KeySet(odd, "https://k.example", {})).verify(session_token("user_1"))


async def test_the_settings_lead_to_the_keys(clerk: ClerkStub, client: httpx2.AsyncClient) -> None:
    assert keys_of(Settings(), client) is None
    assert isinstance(keys_of(Settings(clerk_jwt_key=public_pem(), clerk_issuer=ISSUER), client), GivenKey)
    for settings, url in (
        (Settings(clerk_publishable_key=PUBLISHABLE_KEY), "https://clerk.example.com/.well-known/jwks.json"),
        (Settings(clerk_issuer="https://i.example"), "https://i.example/.well-known/jwks.json"),
        (Settings(clerk_jwks_url="https://k.example", clerk_publishable_key=PUBLISHABLE_KEY), "https://k.example"),
        (Settings(clerk_secret_key=SECRET_KEY), "https://api.clerk.com/v1/jwks"),
    ):
        found = keys_of(settings, client)
        assert isinstance(found, KeySet)
        assert found._url == url
    by_secret = keys_of(Settings(clerk_secret_key=SECRET_KEY, clerk_api_url=clerk.address), client)
    assert by_secret
    await tokens(keys=by_secret).verify(session_token("user_1"))
