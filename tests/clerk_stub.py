"""A stub of Clerk: the part of its Backend API that the service calls, its key set, and its session tokens.

tests/test_clerk_stub.py compares its responses with Clerk's own specification.
"""

import asyncio
import base64
import contextlib
import inspect
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
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

from sync_service.clerk.related_samples import build_sample_membership, build_sample_organization
from sync_service.clerk.samples import build_sample_user
from tests.world import INSTANCE, T1, make_user_data, run_app

SECRET_KEY = "sk_test_SECRET_SENTINEL"
ISSUER = "https://clerk.example.com"
PUBLISHABLE_KEY = "pk_test_" + base64.b64encode(b"clerk.example.com$").decode().rstrip("=")
API_TOKEN = "SECRET_SENTINEL_of_the_app_backend"


@cache
def get_key(name: str = "clerk") -> RSAPrivateKey:
    """Return the key with this name; it is cached for the session because key generation is slow."""
    return generate_private_key(65537, 2048)


def export_public_key(name: str = "clerk") -> str:
    """Return the PEM that Clerk's dashboard shows as the JWKS public key."""
    return get_key(name).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def make_claims(clerk_id: str, **changes: Any) -> dict[str, Any]:
    """Return the claims of a session token issued now; a change to None removes a claim."""
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


def make_session_token(
    clerk_id: str, *, kid: str = INSTANCE, cat: Any = "cl_B7d4PD111AAA", signer: str = "clerk", **changes: Any
) -> str:
    """Return a signed session token of the user."""
    # PyJWS instead of `jwt.encode`, which refuses to create invalid claims.
    payload = json.dumps(make_claims(clerk_id, **changes)).encode()
    return jwt.PyJWS().encode(payload, get_key(signer), algorithm="RS256", headers={"kid": kid, "cat": cat})


def make_bearer_header(token: str) -> dict[str, str]:
    """Return the Authorization header with the token."""
    return {"Authorization": f"Bearer {token}"}


def make_error(code: str, message: str) -> dict[str, Any]:
    """Return the body of Clerk's error responses."""
    return {"errors": [{"message": message, "long_message": message, "code": code}], "clerk_trace_id": "trace"}


@dataclass
class ClerkStub:
    """Clerk's responses and the requests it received.

    `error_status` or `error_response` replaces each response of the Backend API. `hold` keeps calls open.
    `answer_list` may replace the response to a request for a list of users, and may be a coroutine function.
    """

    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    organizations: dict[str, dict[str, Any]] = field(default_factory=dict)
    memberships: dict[str, dict[str, Any]] = field(default_factory=dict)
    kids: dict[str, str] = field(default_factory=lambda: {INSTANCE: "clerk"})
    requests: list[tuple[str, str]] = field(default_factory=list)
    versions: set[str | None] = field(default_factory=set)
    traces: list[str | None] = field(default_factory=list)
    error_status: int = 0
    error_response: Response | None = None
    answer_list: Callable[[Request], Response | Awaitable[Response | None] | None] = lambda _: None
    delay: float = 0
    jwks_fails: bool = False
    url: str = ""
    open_calls: int = 0
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._released.set()

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Send no response within the block; `open_calls` counts the calls that wait for one."""
        self._released.clear()
        try:
            yield
        finally:
            self._released.set()

    def add_user(self, clerk_id: str, updated_at: int = T1, **data: Any) -> None:
        """Add a user as of `updated_at`, with all fields of Clerk's user and the sentinel in the names."""
        sample = build_sample_user(clerk_id, milliseconds=updated_at)
        self.users[clerk_id] = sample | make_user_data(clerk_id, updated_at, **data)
        [template] = sample["email_addresses"]
        for email in self.users[clerk_id]["email_addresses"]:
            email.update(template | email)
            email["verification"] = template["verification"] | email["verification"]

    def remove_user(self, clerk_id: str) -> None:
        """Remove the user; a request for it then gets 404."""
        self.users.pop(clerk_id, None)

    def add_organization(self, organization_id: str, updated_at: int = T1, **data: Any) -> None:
        """Add an organization as of `updated_at`."""
        sample = build_sample_organization(organization_id.removeprefix("org_"), milliseconds=updated_at)
        self.organizations[organization_id] = sample | {"id": organization_id} | data

    def add_membership(
        self, membership_id: str, organization_id: str, user_id: str, updated_at: int = T1, **data: Any
    ) -> None:
        """Add a membership as of `updated_at`."""
        sample = build_sample_membership(user_id, milliseconds=updated_at)
        sample["organization"] = sample["organization"] | {"id": organization_id}
        self.memberships[membership_id] = sample | {"id": membership_id} | data

    @property
    def user_calls(self) -> int:
        """The number of requests for a user."""
        return sum(path.startswith("/v1/users/") for _, path in self.requests)

    @property
    def list_calls(self) -> int:
        """The number of requests for lists of users."""
        return sum(path == "/v1/users" for _, path in self.requests)

    @property
    def jwks_calls(self) -> int:
        """The number of requests for the public key set."""
        return sum(path.endswith("jwks.json") for _, path in self.requests)

    def app(self) -> Starlette:
        """Return the ASGI app."""
        return Starlette(
            routes=[
                Route("/v1/users", self._users),
                Route("/v1/users/count", self._count),
                Route("/v1/users/{clerk_id}", self._user),
                Route("/v1/organizations", self._organizations),
                Route("/v1/organization_memberships", self._memberships),
                Route("/v1/jwks", self._keys),
                Route("/.well-known/jwks.json", self._keys),
                Route("/{rest:path}", self._not_found, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
            ]
        )

    async def _user(self, request: Request) -> Response:
        if error := await self._record(request):
            return error
        user = self.users.get(request.path_params["clerk_id"])
        return JSONResponse(user) if user else JSONResponse(make_error("resource_not_found", "not found"), 404)

    async def _users(self, request: Request) -> Response:
        if error := await self._record(request):
            return error
        answer = self.answer_list(request)
        if answer := await answer if inspect.isawaitable(answer) else answer:
            return answer
        query = request.query_params
        limit, offset, cursor = (
            int(query.get("limit", "10")),
            int(query.get("offset", "0")),
            query.get("starting_after"),
        )
        order = query.get("order_by", "-created_at")
        field = order.lstrip("+-")
        if not 1 <= limit <= 500 or (cursor and (field != "created_at" or offset)):
            return JSONResponse(make_error("request_invalid_for_instance", "wrong parameters"), 422)
        wanted, after = query.getlist("user_id"), int(query.get("created_at_after", "-1"))
        users = [u for i, u in self.users.items() if (i in wanted or not wanted) and u["created_at"] > after]
        users.sort(key=lambda user: (user[field], user["id"]), reverse=order.startswith("-"))
        if cursor:
            # A user that was deleted meanwhile is no place in the list: the page is empty.
            ids = [user["id"] for user in users]
            users = users[ids.index(cursor) + 1 :] if cursor in ids else []
        return JSONResponse(users[offset : offset + limit])

    async def _organizations(self, request: Request) -> Response:
        return await self._related(request, self.organizations, "organization_id")

    async def _memberships(self, request: Request) -> Response:
        return await self._related(request, self.memberships, "")

    async def _related(self, request: Request, objects: dict[str, dict[str, Any]], id_parameter: str) -> Response:
        if error := await self._record(request):
            return error
        answer = self.answer_list(request)
        if answer := await answer if inspect.isawaitable(answer) else answer:
            return answer
        query = request.query_params
        limit, offset = int(query.get("limit", "10")), int(query.get("offset", "0"))
        order, wanted = query.get("order_by", "-created_at"), query.getlist(id_parameter)
        if not 1 <= limit <= 500 or order.lstrip("+-") != "created_at":
            return JSONResponse(make_error("request_invalid_for_instance", "wrong parameters"), 422)
        found = [one for i, one in objects.items() if i in wanted or not wanted]
        if query.get("include_members_count") == "true":
            members = Counter(one["organization"]["id"] for one in self.memberships.values())
            found = [one | {"members_count": members[one["id"]]} for one in found]
        found.sort(key=lambda one: (one["created_at"], one["id"]), reverse=order.startswith("-"))
        return JSONResponse({"data": found[offset : offset + limit], "total_count": len(found)})

    async def _count(self, request: Request) -> Response:
        error = await self._record(request)
        return error or JSONResponse({"object": "total_count", "total_count": len(self.users)})

    async def _keys(self, request: Request) -> Response:
        secret = request.url.path.startswith("/v1")
        if error := await self._record(request, secret=secret):
            return error
        if self.jwks_fails and not secret:
            return JSONResponse(make_error("internal_clerk_error", "down"), 500)
        return JSONResponse({"keys": [self._jwk(kid, name) for kid, name in self.kids.items()]})

    def _jwk(self, kid: str, name: str) -> dict[str, Any]:
        jwk = RSAAlgorithm.to_jwk(get_key(name).public_key(), as_dict=True)
        return {"use": "sig", "kid": kid, "alg": "RS256"} | {part: jwk[part] for part in ("kty", "n", "e")}

    async def _record(self, request: Request, *, secret: bool = True) -> Response | None:
        self.requests.append((request.method, request.url.path))
        self.traces.append(request.headers.get("traceparent"))
        self.open_calls += 1
        try:
            await self._released.wait()
            await asyncio.sleep(self.delay)
        finally:
            self.open_calls -= 1
        if secret:
            self.versions.add(request.headers.get("clerk-api-version"))
            if request.headers.get("authorization") != f"Bearer {SECRET_KEY}":
                return JSONResponse(make_error("authentication_invalid", "no"), 401)
            if self.error_response:
                return self.error_response
            if self.error_status:
                return JSONResponse(make_error("internal_clerk_error", "no"), self.error_status)
        return None

    async def _not_found(self, request: Request) -> Response:
        self.requests.append((request.method, request.url.path))
        return JSONResponse(make_error("resource_not_found", "no such page"), 404)


@contextlib.asynccontextmanager
async def run_clerk_stub() -> AsyncIterator[ClerkStub]:
    """Run a stub; every request to it must be a GET (F10)."""
    stub = ClerkStub()
    async with run_app(stub.app()) as stub.url:
        yield stub
    assert {method for method, _ in stub.requests} <= {"GET"}
