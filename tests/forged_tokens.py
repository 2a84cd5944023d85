"""Session tokens that must be refused."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.clerk_stub import ISSUER, SECRET_KEY, export_public_key, get_key, make_claims, make_session_token
from tests.world import INSTANCE

OTHER_INSTANCE = "ins_2otherotherotherotherother"


def sign_token(payload: object, header: dict[str, Any] | None = None, signer: str = "clerk") -> str:
    """Return a token with exactly this payload and header, and a valid signature."""
    text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return jwt.PyJWS().encode(text, get_key(signer), algorithm="RS256", headers={"kid": INSTANCE} | (header or {}))


def encode_unsigned_token(header: object, payload: object, signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(payload).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def sign_token_by_hmac() -> str:
    """Return an HS256 token with the public key's PEM as the secret: the algorithm-confusion attack."""
    text = encode_unsigned_token({"alg": "HS256", "typ": "JWT", "kid": INSTANCE}, make_claims("user_1")).rpartition(
        "."
    )[0]
    signature = hmac.new(export_public_key().encode(), text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def tamper_with_token(**changes: Any) -> str:
    """Return a valid token with a replaced payload."""
    header, _, signature = make_session_token("user_1").split(".")
    body = base64.urlsafe_b64encode(json.dumps(make_claims("user_1") | changes).encode()).decode().rstrip("=")
    return f"{header}.{body}.{signature}"


def forge_tokens() -> dict[str, str]:
    """Return tokens that must be refused, by their defect; some are invalid for the next 30 s only."""
    now = int(time.time())
    critical = {"alg": "RS256", "kid": INSTANCE, "crit": ["b64"], "b64": False}
    own_key = {"jwk": {"kty": "RSA"}, "jku": "https://m.example"}
    private = get_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return {
        "none": encode_unsigned_token({"alg": "none", "typ": "JWT", "kid": INSTANCE}, make_claims("user_1")),
        "None": encode_unsigned_token({"alg": "None", "typ": "JWT", "kid": INSTANCE}, make_claims("user_1")),
        "no alg": encode_unsigned_token({"typ": "JWT", "kid": INSTANCE}, make_claims("user_1"), b"x"),
        "hs256 with the public key": sign_token_by_hmac(),
        "rs512": jwt.encode(make_claims("user_1"), get_key(), algorithm="RS512", headers={"kid": INSTANCE}),
        "ps256": jwt.encode(make_claims("user_1"), get_key(), algorithm="PS256", headers={"kid": INSTANCE}),
        "another's key": make_session_token("user_1", signer="mallory"),
        "another issuer": make_session_token("user_1", iss="https://clerk.mallory.example"),
        "another instance": make_session_token("user_1", kid=OTHER_INSTANCE),
        "expired": make_session_token("user_1", exp=now - 6, iat=now - 66, nbf=now - 76),
        "early": make_session_token("user_1", nbf=now + 600, exp=now + 660),
        "made in the future": make_session_token("user_1", iat=now + 600, exp=now + 660),
        "no exp": make_session_token("user_1", exp=None),
        "no nbf": make_session_token("user_1", nbf=None),
        "no iss": make_session_token("user_1", iss=None),
        "no sub": make_session_token("user_1", sub=None),
        "empty sub": make_session_token(""),
        "sub is a number": make_session_token("user_1", sub=7),
        "sub with a blank": make_session_token("user_1 or 1=1"),
        "sub with NUL": make_session_token("user_1\0"),
        "sub too long": make_session_token("user_" + "1" * 300),
        "a machine": make_session_token("mch_1"),
        "exp is a text": make_session_token("user_1", exp="soon"),
        "exp is a list": make_session_token("user_1", exp=[now + 60]),
        "exp is endless": sign_token(json.dumps(make_claims("user_1", exp="EXP")).replace('"EXP"', "1e999").encode()),
        "iss is a list": make_session_token("user_1", iss=[ISSUER]),
        "a JWT template": make_session_token("user_1", cat="cl_B7d4PD222AAA"),
        "a machine of a user": make_session_token("user_1", cat="cl_B7d4PD333AAA"),
        "an unknown category": make_session_token("user_1", cat=""),
        "category is a number": make_session_token("user_1", cat=1),
        "category is a list": make_session_token("user_1", cat=["cl_B7d4PD111AAA"]),
        "no sid": make_session_token("user_1", sid=None),
        "empty sid": make_session_token("user_1", sid=""),
        "sid is a list": make_session_token("user_1", sid=["sess_1"]),
        "an invitation": make_session_token("user_1", sid="inv_1", st="invitation"),
        "a sign-in token": make_session_token("user_1", sid="sit_1", st="sign_in_token"),
        "a ticket of a session": make_session_token("user_1", st="sign_in_token"),
        "valid for a year": make_session_token("user_1", exp=now + 365 * 86_400),
        "valid for a year without iat": make_session_token("user_1", exp=now + 365 * 86_400, iat=None),
        "valid for a year, iat is a text": make_session_token("user_1", exp=now + 365 * 86_400, iat=str(now)),
        "pending": make_session_token("user_1", sts="pending"),
        "tampered sub": tamper_with_token(sub="user_2"),
        "tampered exp": tamper_with_token(exp=now + 3600),
        "an access token of oauth": sign_token(make_claims("user_1"), {"typ": "at+jwt"}),
        "critical extension": encode_unsigned_token(critical, {}, b"x"),
        "kid is a number": encode_unsigned_token({"alg": "RS256", "kid": 7}, make_claims("user_1"), b"x"),
        "a key of its own": sign_token(make_claims("user_1"), own_key, "mallory"),
        "payload is a list": sign_token([1, 2]),
        "payload is a number": sign_token(b"7"),
        "payload is no JSON": sign_token(b"\xff\xfe"),
        "payload is deep": sign_token(b"[" * 4000 + b"]" * 4000),
        "header is a list": encode_unsigned_token([], {}, b"x"),
        "oversized": make_session_token("user_1", more="x" * 9000),
        "two parts": "a.b",
        "four parts": make_session_token("user_1") + ".x",
        "empty parts": "..",
        "a blank in it": make_session_token("user_1").replace(".", ". ", 1),
        "api key": "ak_" + "x" * 40,
        "oauth token": "oat_" + "x" * 40,
        "m2m token": "m2m_" + "x" * 40,
        "machine token": "mt_" + "x" * 40,
        "our secret key": SECRET_KEY,
        "a private key": private.replace("\n", ""),
        "empty": "",
    }
