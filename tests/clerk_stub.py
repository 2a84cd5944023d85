"""A stand-in for Clerk: its Backend API as far as it is asked, its key set, and what signs session tokens.

tests/test_clerk_stub.py holds its answers against Clerk's own specification.
"""

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sync_service.clerk.samples import sample_user
from tests.world import INSTANCE, T1, make_user_data, run_app

SECRET_KEY = "sk_test_SECRET_SENTINEL"
ISSUER = "https://clerk.example.com"
PUBLISHABLE_KEY = "pk_test_" + base64.b64encode(b"clerk.example.com$").decode().rstrip("=")
API_TOKEN = "SECRET_SENTINEL_of_the_app_backend"


@cache
def get_key(name: str = "clerk") -> RSAPrivateKey:
    """Return a key of that name, the same one for the whole session: they take long to make."""
    return generate_private_key(65537, 2048)


def export_public_key(name: str = "clerk") -> str:
    """Return what Clerk's dashboard shows as the JWKS public key."""
    return get_key(name).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def make_claims(clerk_id: str, **changes: Any) -> dict[str, Any]:
    """Return the claims of a session token made now; a change to None takes one away."""
    now = int(time.time())
    given = {
        "azp": "https://app.example.com",
        "exp": now + 60,
        "fva": [0, -1],
        "iat": now,
        "iss": ISSUER,
        "jti": "1216f517a5ecfaac7b9a",
        "nbf": now - 10,
        "sid": "sess_1",
        "sts": "active",
        "sub": clerk_id,
        "v": 2,
    } | changes
    return {name: value for name, value in given.items() if value is not None}


def make_session_token(clerk_id: str, *, kid: str = INSTANCE, signer: str = "clerk", **changes: Any) -> str:
    """Return JWT(clerk_id)."""
    # Not by `encode` for tokens, which refuses to make what it would refuse to read.
    said = json.dumps(make_claims(clerk_id, **changes)).encode()
    return jwt.PyJWS().encode(said, get_key(signer), algorithm="RS256", headers={"kid": kid})


def make_bearer_header(token: str) -> dict[str, str]:
    """Return the header with it."""
    return {"Authorization": f"Bearer {token}"}


def make_error(code: str, message: str) -> dict[str, Any]:
    """Return the body of Clerk's errors."""
    return {"errors": [{"message": message, "long_message": message, "code": code}], "clerk_trace_id": "trace"}


@dataclass
class ClerkStub:
    """What Clerk would answer, and what it was asked. `fails` is a status that everything is answered with."""

    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    kids: dict[str, str] = field(default_factory=lambda: {INSTANCE: "clerk"})
    requests: list[tuple[str, str]] = field(default_factory=list)
    versions: set[str | None] = field(default_factory=set)
    error_status: int = 0
    error_response: Response | None = None
    delay: float = 0
    jwks_fails: bool = False
    url: str = ""

    def add_user(self, clerk_id: str, updated_at: int = T1, **data: Any) -> None:
        """Have it know a user as of then; all that Clerk says of one, with the sentinel in the names."""
        whole = sample_user(clerk_id, milliseconds=updated_at)
        self.users[clerk_id] = whole | make_user_data(clerk_id, updated_at, **data)
        [template] = whole["email_addresses"]
        for address in self.users[clerk_id]["email_addresses"]:
            address.update(template | address)
            address["verification"] = template["verification"] | address["verification"]

    def remove_user(self, clerk_id: str) -> None:
        """Have it answer 404."""
        self.users.pop(clerk_id, None)

    @property
    def user_calls(self) -> int:
        """How often it was asked about a user."""
        return sum(path.startswith("/v1/users/") for _, path in self.requests)

    @property
    def jwks_calls(self) -> int:
        """How often it was asked for its keys."""
        return sum(path.endswith("jwks.json") for _, path in self.requests)

    def app(self) -> Starlette:
        """Return the app that answers."""
        return Starlette(
            routes=[
                Route("/v1/users", self._users),
                Route("/v1/users/{clerk_id}", self._user),
                Route("/v1/jwks", self._keys),
                Route("/.well-known/jwks.json", self._keys),
                Route("/{rest:path}", self._nothing, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
            ]
        )

    async def _user(self, request: Request) -> Response:
        if refusal := await self._began(request):
            return refusal
        user = self.users.get(request.path_params["clerk_id"])
        return JSONResponse(user) if user else JSONResponse(make_error("resource_not_found", "not found"), 404)

    async def _users(self, request: Request) -> Response:
        if refusal := await self._began(request):
            return refusal
        wanted = request.query_params.getlist("user_id")
        most = int(request.query_params.get("limit", "10"))
        return JSONResponse([user for clerk_id, user in self.users.items() if clerk_id in wanted or not wanted][:most])

    async def _keys(self, request: Request) -> Response:
        secret = request.url.path.startswith("/v1")
        if refusal := await self._began(request, secret=secret):
            return refusal
        if self.jwks_fails and not secret:
            return JSONResponse(make_error("internal_clerk_error", "down"), 500)
        return JSONResponse({"keys": [self._jwk(kid, name) for kid, name in self.kids.items()]})

    def _jwk(self, kid: str, name: str) -> dict[str, Any]:
        whole = RSAAlgorithm.to_jwk(get_key(name).public_key(), as_dict=True)
        return {"use": "sig", "kid": kid, "alg": "RS256"} | {part: whole[part] for part in ("kty", "n", "e")}

    async def _began(self, request: Request, *, secret: bool = True) -> Response | None:
        self.requests.append((request.method, request.url.path))
        await asyncio.sleep(self.delay)
        if secret:
            self.versions.add(request.headers.get("clerk-api-version"))
            if request.headers.get("authorization") != f"Bearer {SECRET_KEY}":
                return JSONResponse(make_error("authentication_invalid", "no"), 401)
            if self.error_response:
                return self.error_response
            if self.error_status:
                return JSONResponse(make_error("internal_clerk_error", "no"), self.error_status)
        return None

    async def _nothing(self, request: Request) -> Response:
        self.requests.append((request.method, request.url.path))
        return JSONResponse(make_error("resource_not_found", "no such page"), 404)


@contextlib.asynccontextmanager
async def run_clerk_stub() -> AsyncIterator[ClerkStub]:
    """Run one; nobody may ever have asked it for anything but to read (F10)."""
    stub = ClerkStub()
    async with run_app(stub.app()) as stub.url:
        yield stub
    assert {method for method, _ in stub.requests} <= {"GET"}
