"""Session tokens that must be refused."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.clerk_stub import ISSUER, SECRET_KEY, claims, key, public_pem, session_token
from tests.world import INSTANCE

OTHER_INSTANCE = "ins_2otherotherotherotherother"


def sign_token(payload: object, header: dict[str, Any] | None = None, signer: str = "clerk") -> str:
    """Return a token with just that payload and header, genuinely signed."""
    text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return jwt.PyJWS().encode(text, key(signer), algorithm="RS256", headers={"kid": INSTANCE} | (header or {}))


def encode_unsigned_token(header: object, payload: object, signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(payload).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def sign_token_by_hmac() -> str:
    """Return a token signed by HS256 with the public key's PEM as the secret, the oldest trick."""
    text = encode_unsigned_token({"alg": "HS256", "typ": "JWT", "kid": INSTANCE}, claims("user_1")).rpartition(".")[0]
    signature = hmac.new(public_pem().encode(), text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def tamper_with_token(**changes: Any) -> str:
    """Return a genuine token whose payload was exchanged."""
    header, _, signature = session_token("user_1").split(".")
    body = base64.urlsafe_b64encode(json.dumps(claims("user_1") | changes).encode()).decode().rstrip("=")
    return f"{header}.{body}.{signature}"


def forge_tokens() -> dict[str, str]:
    """Return tokens that must be refused, by what is wrong with them; some only for the next half a minute."""
    now = int(time.time())
    critical = {"alg": "RS256", "kid": INSTANCE, "crit": ["b64"], "b64": False}
    own_key = {"jwk": {"kty": "RSA"}, "jku": "https://m.example"}
    private = key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return {
        "none": encode_unsigned_token({"alg": "none", "typ": "JWT", "kid": INSTANCE}, claims("user_1")),
        "None": encode_unsigned_token({"alg": "None", "typ": "JWT", "kid": INSTANCE}, claims("user_1")),
        "no alg": encode_unsigned_token({"typ": "JWT", "kid": INSTANCE}, claims("user_1"), b"x"),
        "hs256 with the public key": sign_token_by_hmac(),
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
        "exp is endless": sign_token(json.dumps(claims("user_1")).replace(str(now + 60), "1e999").encode()),
        "iss is a list": session_token("user_1", iss=[ISSUER]),
        "an audience": session_token("user_1", aud="https://elsewhere.example.com"),
        "pending": session_token("user_1", sts="pending"),
        "tampered sub": tamper_with_token(sub="user_2"),
        "tampered exp": tamper_with_token(exp=now + 3600),
        "an access token of oauth": sign_token(claims("user_1"), {"typ": "at+jwt"}),
        "critical extension": encode_unsigned_token(critical, {}, b"x"),
        "kid is a number": encode_unsigned_token({"alg": "RS256", "kid": 7}, claims("user_1"), b"x"),
        "a key of its own": sign_token(claims("user_1"), own_key, "mallory"),
        "payload is a list": sign_token([1, 2]),
        "payload is a number": sign_token(b"7"),
        "payload is no JSON": sign_token(b"\xff\xfe"),
        "payload is deep": sign_token(b"[" * 4000 + b"]" * 4000),
        "header is a list": encode_unsigned_token([], {}, b"x"),
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
