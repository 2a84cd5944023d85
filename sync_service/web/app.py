"""The app, made from settings by a function; importing this module does nothing."""

import asyncio
import contextlib
import gc
import os
from collections.abc import AsyncIterator

import httpx2
import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sync_service.clerk.api import ClerkApi
from sync_service.clerk.breaker import Quota
from sync_service.clerk.keys import Keys, issuer_of, keys_of
from sync_service.clerk.signature import Verifier
from sync_service.clerk.tokens import SessionTokens
from sync_service.errors import SettingsError
from sync_service.logs import configure_logging
from sync_service.postgres.pool import open_pool
from sync_service.postgres.statements import Statements
from sync_service.process import die_with_parent
from sync_service.settings import TO_SERVE, Settings, read_settings
from sync_service.sync.apply import Applier
from sync_service.sync.asking import Questions
from sync_service.sync.login import Logins
from sync_service.sync.retry import Retry
from sync_service.web.callers import Callers
from sync_service.web.health import Readiness, healthz
from sync_service.web.metrics import Metrics
from sync_service.web.problems import HANDLERS
from sync_service.web.requests import Requests
from sync_service.web.sync import Sync
from sync_service.web.users import Users
from sync_service.web.webhooks import ClerkWebhook

log = structlog.get_logger()

# A webhook takes 10 s at most; a platform kills after 10 (Docker) or 30 s (Heroku).
STOP_SECONDS = 10

# Four fifths of what Clerk allows a production instance in 10 s, shared by the processes of one service. What a
# development instance has beyond its own, smaller quota, Clerk itself refuses, and is then not asked for a while.
MOST_QUESTIONS = 800


def create_app(settings: Settings) -> ASGIApp:
    """Return the app. Nothing is opened before it starts, and it starts with the database away, too."""
    if settings.database is None or not settings.clerk_webhook_signing_secrets:
        raise SettingsError([f"{name}: not set" for name in TO_SERVE])
    dsn = settings.database
    metrics = Metrics()
    verifier = Verifier(settings.clerk_webhook_signing_secrets)
    statements = Statements(settings.mapping)
    clerk_webhook = Route("/webhooks/clerk", _ClerkWebhook(), methods=["POST"])

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, object]]:
        if dsn.dropped:
            log.warning("left out of DATABASE_URL, for the driver does not know them", keys=dsn.dropped)
        pool = await open_pool(dsn)
        readiness = Readiness(pool, statements)
        woken = asyncio.Event()
        applier = Applier(pool, statements, max_attempts=settings.sync_max_attempts, left_over=woken.set)
        client = httpx2.AsyncClient()
        keys = keys_of(settings, client)
        callers = Callers(_session_tokens(settings, keys), settings.sync_api_token)
        questions = _questions(settings, applier, client, metrics)
        max_age, instance_id = settings.sync_max_age, settings.clerk_instance_id
        logins = Logins(applier, questions, max_age=max_age, instance_id=instance_id)
        retry = Retry(applier.telling("replay"), settings.sync_event_retention, woken, questions)
        background = [asyncio.create_task(readiness.tell()), asyncio.create_task(retry.run())]
        if keys:
            background.append(asyncio.create_task(keys.refresh()))  # so that the first login need not wait for it
        try:
            yield {
                "webhook": ClerkWebhook(verifier, applier, metrics, instance_id),
                "readiness": readiness,
                "sync": Sync(callers, logins, metrics),
                "users": Users(callers, questions, applier, metrics),
            }
        finally:
            for task in background:
                task.cancel()
            await questions.close()
            await client.aclose()
            try:
                await asyncio.wait_for(pool.close(), STOP_SECONDS)
            except TimeoutError:
                pool.terminate()
            log.info("stopped")

    app = Starlette(
        routes=[
            clerk_webhook,
            _sync_route(settings),
            Route("/users/resolve", _resolve, methods=["POST"]),
            Route("/users/{clerk_id}", _user),
            Route("/healthz", healthz),
            Route("/readyz", _readyz),
            Route("/metrics", metrics.answer),
        ],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
    return Requests(app, most_asked=clerk_webhook)


class _ClerkWebhook:
    """A class, not a function: so Starlette hands it the request as the server did (ASGI)."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        webhook: ClerkWebhook = scope["state"]["webhook"]
        await webhook(scope, receive, send)


async def _sync(request: Request) -> Response:
    sync: Sync = request.state.sync
    return await sync.answer(request)


def _sync_route(settings: Settings) -> Route:
    """Return the route; browsers may call it from the authorized parties that are origins, and from nowhere else."""
    origins = [
        party.rstrip("/") for party in settings.clerk_authorized_parties if party.startswith(("http:", "https:"))
    ]
    if not origins:
        return Route("/sync", _sync, methods=["POST"])
    cors = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["POST"],
        allow_headers=["Authorization", "Content-Type", "X-Request-Id"],
        expose_headers=["Retry-After", "X-Request-Id"],
    )
    # OPTIONS too, or the route would refuse what the middleware is to answer.
    return Route("/sync", _sync, methods=["POST", "OPTIONS"], middleware=[cors])


async def _user(request: Request) -> Response:
    users: Users = request.state.users
    return await users.one(request)


async def _resolve(request: Request) -> Response:
    users: Users = request.state.users
    return await users.resolve(request)


def _session_tokens(settings: Settings, keys: Keys | None) -> SessionTokens | None:
    if keys is None:
        return None
    return SessionTokens(
        keys,
        issuer=issuer_of(settings),
        parties=settings.clerk_authorized_parties,
        instance_id=settings.clerk_instance_id,
    )


def _questions(settings: Settings, applier: Applier, client: httpx2.AsyncClient, metrics: Metrics) -> Questions:
    key = settings.clerk_secret_key
    return Questions(
        applier,
        ClerkApi(client, settings.clerk_api_url, key) if key else None,
        Quota(most=max(1, MOST_QUESTIONS // settings.web_concurrency)),
        max_age=settings.sync_max_age,
        instance_id=settings.clerk_instance_id,
        missed=metrics.missed_webhooks.inc,
    )


async def _readyz(request: Request) -> Response:
    readiness: Readiness = request.state.readiness
    return await readiness.answer(request)


def app_of_environment() -> ASGIApp:
    """Return the app of this process's environment: what uvicorn calls in each process that it starts."""
    die_with_parent()
    settings = read_settings(os.environ, required=TO_SERVE)
    configure_logging(level=settings.log_level, form=settings.log_format)
    app = create_app(settings)
    # What is there now stays, and a request leaves next to no cycles: looking for some after every 700 objects was a
    # sixth of all the time.
    gc.freeze()
    gc.set_threshold(50_000)
    return app
