"""The ASGI app, created from settings by a function; importing this module has no side effects."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from functools import cache
from importlib.metadata import version

import httpx2
import msgspec
import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sync_service.clerk.client import ClerkClient
from sync_service.clerk.jwks import KeySource, key_source_from
from sync_service.clerk.observed_client import ObservedClient
from sync_service.clerk.rate_limit import RateLimiter
from sync_service.clerk.session_tokens import SessionTokenVerifier
from sync_service.clerk.user_list import LIST_TIMEOUT, UserList, create_limiter
from sync_service.clerk.webhook_signature import WebhookVerifier
from sync_service.dsn import Dsn
from sync_service.errors import NoTokenKey, SettingsError
from sync_service.logs import configure_logging
from sync_service.postgres.limited_access import LimitedDatabase
from sync_service.postgres.pool import open_database
from sync_service.process import die_with_parent, limit_garbage_collection
from sync_service.settings import REQUIRED_TO_SERVE, Settings, read_settings
from sync_service.store.access import Store
from sync_service.sync.apply import Applier
from sync_service.sync.change_signal import ChangeSignal
from sync_service.sync.login import LoginService
from sync_service.sync.maintenance import MaintenanceWorker
from sync_service.sync.reconcile import Reconciler
from sync_service.sync.reconcile_request import ReconcileStarter
from sync_service.sync.reconcile_schedule import ReconcileSchedule
from sync_service.sync.refresh import UserRefresher
from sync_service.sync.replay import create_replayer
from sync_service.tracing import Tracing, start_tracing
from sync_service.web.auth import Authenticator
from sync_service.web.changes import CHANGES, ChangesEndpoint
from sync_service.web.health import HEALTHZ, READYZ, Readiness, healthz
from sync_service.web.limits import TimeLimits
from sync_service.web.metrics.database_figures import DatabaseFigures
from sync_service.web.metrics.endpoint import METRICS, MetricsEndpoint
from sync_service.web.metrics.families import Metrics
from sync_service.web.metrics.process_gauges import ProcessGauges
from sync_service.web.metrics.shared_folder import find_shared_folder
from sync_service.web.middleware import RequestLogMiddleware
from sync_service.web.openapi import OPENAPI, describe_interface
from sync_service.web.ops.auth import OpsAuthenticator
from sync_service.web.ops.context import OpsContext
from sync_service.web.ops.page.routes import create_page_routes
from sync_service.web.ops.routes import API_ROUTES, OpsHeaders
from sync_service.web.ops.routes import create_routes as create_ops_routes
from sync_service.web.problems import HANDLERS
from sync_service.web.sync import SYNC, SyncEndpoint
from sync_service.web.users import RESOLVE, USER, UserEndpoints
from sync_service.web.webhooks import WEBHOOK, WebhookEndpoint

log = structlog.get_logger()

# A webhook takes 10 s at most. A platform kills the process after 10 s (Docker) or 30 s (Heroku).
STOP_TIMEOUT = 10

# Requests to Clerk in 10 s: four fifths of a production instance's quota, shared by the processes of one service. A
# development instance has a smaller quota: Clerk rejects the excess, and the service then pauses its requests.
MAX_CLERK_REQUESTS = 800

# Of the pool's ten connections, so that operators and deliveries cannot keep webhooks and logins waiting.
MAX_OPS_CONNECTIONS = 2

MAX_NOTIFIER_CONNECTIONS = 1

DEFAULT_LIMITS = TimeLimits()

# All routes, in the order of the document.
OPERATIONS = (
    *(WEBHOOK, SYNC, USER, RESOLVE, CHANGES, HEALTHZ, READYZ, METRICS, OPENAPI),
    *(route.operation for route in API_ROUTES),
)


def create_app(settings: Settings, limits: TimeLimits = DEFAULT_LIMITS, tracing: Tracing | None = None) -> ASGIApp:
    """Return the app. It opens connections only after its start, and it starts without the database, too.

    Raises `SettingsError`.
    """
    if settings.database is None or not settings.clerk_webhook_signing_secrets:
        raise SettingsError([f"{name}: not set" for name in REQUIRED_TO_SERVE])
    dsn = settings.database
    metrics = Metrics(version("sync-service"))
    verifier = WebhookVerifier(settings.clerk_webhook_signing_secrets)
    webhook_route = Route(WEBHOOK.path, _WebhookApp(), methods=[WEBHOOK.method])

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, object]]:
        if dsn.ignored_parameters:
            log.warning(
                "dsn_parameters_ignored", parameters=dsn.ignored_parameters, hint="asyncpg does not support them"
            )
        database = await open_database(dsn)
        store = Store(database, settings.mapping)
        readiness = Readiness(store)
        wake, commits = asyncio.Event(), ChangeSignal()
        applier = Applier(
            store,
            max_attempts=settings.sync_max_attempts,
            on_work_left=wake.set,
            on_retry=lambda outcome: metrics.retries.labels(outcome).inc(),
            on_commit=commits.announce,
            delete_timeout=limits.deletion,
        )
        client = ObservedClient(
            settings.clerk_api_url,
            lambda outcome: metrics.clerk_requests.labels(outcome).inc(),
            tracing.trace_call if tracing else contextlib.nullcontext,
        )
        keys = create_key_source(settings, client)
        authenticator = Authenticator(_create_token_verifier(settings, keys), settings.sync_api_token)
        clerk = _create_clerk_client(settings, client, limits)
        limiter = RateLimiter(max_requests=max(1, MAX_CLERK_REQUESTS // settings.web_concurrency))
        refresher = UserRefresher(
            applier,
            clerk,
            limiter,
            max_age=settings.sync_max_age,
            instance_id=settings.clerk_instance_id,
            on_missed_webhook=metrics.missed_webhooks.inc,
        )
        gauges = ProcessGauges(metrics, database, limiter, clerk, keys)
        metrics_endpoint = _create_metrics_endpoint(metrics, store, readiness, gauges)
        login_service = LoginService(
            applier,
            refresher,
            max_age=settings.sync_max_age,
            instance_id=settings.clerk_instance_id,
            stale_wait=limits.stale_wait,
        )
        worker = MaintenanceWorker(applier.with_source("replay"), settings.sync_event_retention, wake, refresher)
        always = (readiness.log_state(), worker.run(), metrics_endpoint.keep_updated())
        background = [asyncio.create_task(work) for work in always]
        schedule, reconciles = _create_reconciles(settings, dsn, applier, client)
        if schedule:
            background.append(asyncio.create_task(schedule.run()))
        background += _start_notifier(settings, store, metrics, commits)
        if keys is None:
            log.warning("session_tokens_disabled", hint=NoTokenKey.hint)
        else:
            background.append(asyncio.create_task(keys.refresh()))  # so that the first login need not wait for it
        try:
            yield {
                "webhook": WebhookEndpoint(verifier, applier, metrics, limits, settings.clerk_instance_id),
                "readiness": readiness,
                "metrics": metrics_endpoint,
                "sync": SyncEndpoint(authenticator, login_service, metrics, limits),
                "changes": ChangesEndpoint(authenticator, store, commits, limits),
                "users": UserEndpoints(authenticator, refresher, applier, metrics, limits),
                "ops": _create_ops(settings, applier, refresher, reconciles, limits),
            }
        finally:
            for task in background:
                task.cancel()
            if reconciles:
                await reconciles.close()
            await refresher.close()
            await client.aclose()
            await database.aclose()
            if tracing:
                await tracing.flush()
            log.info("stopped")

    app = Starlette(
        routes=[
            webhook_route,
            _create_sync_route(settings),
            Route(RESOLVE.path, _resolve, methods=[RESOLVE.method]),
            Route(USER.path, _user),
            Route(CHANGES.path, _changes),
            Route(HEALTHZ.path, healthz),
            Route(READYZ.path, _readyz),
            Route(METRICS.path, _metrics),
            Route(OPENAPI.path, _openapi),
            *(_create_all_ops_routes() if settings.sync_ops_token else ()),
        ],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
    with_log = RequestLogMiddleware(OpsHeaders(app), fast_route=webhook_route)
    return tracing.wrap(with_log) if tracing else with_log


class _WebhookApp:
    """A class, not a function, so that Starlette passes the ASGI arguments unchanged."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint: WebhookEndpoint = scope["state"]["webhook"]
        await endpoint(scope, receive, send)


async def _sync(request: Request) -> Response:
    sync: SyncEndpoint = request.state.sync
    return await sync.endpoint(request)


def _create_sync_route(settings: Settings) -> Route:
    """Return the route. Browsers may call it only from those authorized parties that are origins."""
    # Browser extensions and web views have schemes of their own: `chrome-extension://…`, `tauri://localhost`.
    origins = [party.rstrip("/") for party in settings.clerk_authorized_parties if "://" in party]
    if not origins:
        return Route(SYNC.path, _sync, methods=[SYNC.method])
    cors = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["POST"],
        allow_headers=["Authorization", "Content-Type", "X-Request-Id"],
        expose_headers=["Retry-After", "X-Request-Id"],
    )
    # A route checks the method before its middleware runs, so it must accept OPTIONS for the CORS preflight.
    return Route(SYNC.path, _sync, methods=[SYNC.method, "OPTIONS"], middleware=[cors])


async def _openapi(request: Request) -> Response:
    return Response(encode_description(), media_type="application/json")


@cache
def encode_description() -> bytes:
    """Return the OpenAPI document of all routes as JSON."""
    return msgspec.json.format(msgspec.json.encode(describe_interface(OPERATIONS)), indent=2)


async def _user(request: Request) -> Response:
    users: UserEndpoints = request.state.users
    return await users.get_user(request)


async def _changes(request: Request) -> Response:
    changes: ChangesEndpoint = request.state.changes
    return await changes.endpoint(request)


async def _resolve(request: Request) -> Response:
    users: UserEndpoints = request.state.users
    return await users.resolve(request)


def create_key_source(settings: Settings, client: httpx2.AsyncClient) -> KeySource | None:
    """Return the keys of session tokens that the settings name, or None."""
    return key_source_from(
        client,
        jwt_key=settings.clerk_jwt_key,
        jwks_url=settings.jwks_url,
        api_url=settings.clerk_api_url,
        secret_key=settings.clerk_secret_key,
    )


def _create_token_verifier(settings: Settings, keys: KeySource | None) -> SessionTokenVerifier | None:
    if keys is None:
        return None
    return SessionTokenVerifier(
        keys,
        issuer=settings.issuer,
        parties=settings.clerk_authorized_parties,
        instance_id=settings.clerk_instance_id,
        max_lifetime=settings.sync_max_token_lifetime,
    )


def _create_metrics_endpoint(
    metrics: Metrics, store: Store, readiness: Readiness, gauges: ProcessGauges
) -> MetricsEndpoint:
    figures = DatabaseFigures(store, readiness, find_shared_folder())
    return MetricsEndpoint(metrics, figures, gauges.update)


def _start_notifier(
    settings: Settings, store: Store, metrics: Metrics, commits: ChangeSignal
) -> list[asyncio.Task[None]]:
    """Start the deliveries to the app if it has a URL for them."""
    if settings.sync_notify_url is None:
        return []
    # Only a service with notifications needs the memory and the time of this import.
    from sync_service.sync.notifier import Notifier, create_client  # noqa: PLC0415

    notifier = Notifier(
        store.with_database(LimitedDatabase(store.database, MAX_NOTIFIER_CONNECTIONS)),
        create_client(settings.sync_notify_url),
        settings.sync_notify_url,
        settings.sync_notify_secret,
        on_outcome=lambda outcome: metrics.deliveries.labels(outcome).inc(),
    )
    commits.listeners.append(notifier.wake)
    return [asyncio.create_task(notifier.run())]


def _create_clerk_client(settings: Settings, client: httpx2.AsyncClient, limits: TimeLimits) -> ClerkClient | None:
    key = settings.clerk_secret_key
    return ClerkClient(client, settings.clerk_api_url, key, timeout=limits.clerk_request) if key else None


def _create_reconciles(
    settings: Settings, dsn: Dsn, applier: Applier, client: httpx2.AsyncClient
) -> tuple[ReconcileSchedule, ReconcileStarter] | tuple[None, None]:
    """Return the runs at their intervals, and those that operators start. Both need a key for Clerk's API."""
    key = settings.clerk_secret_key
    if key is None:
        return None, None

    def create(recent: bool, dry_run: bool = False) -> Reconciler:
        # A circuit breaker of its own: a list that fails must not keep logins from Clerk.
        lists = ClerkClient(client, settings.clerk_api_url, key, timeout=LIST_TIMEOUT)
        users = UserList(lists, create_limiter(key), needs_raw_json=settings.mapping.needs_raw_json)
        return Reconciler(applier, users, instance_id=settings.clerk_instance_id, dry_run=dry_run, recent=recent)

    schedule = ReconcileSchedule(dsn, create, settings.sync_reconcile_every, settings.sync_reconcile_recent_every)
    return schedule, ReconcileStarter(dsn, create)


def _create_all_ops_routes() -> list[Route]:
    return [*create_page_routes(), *create_ops_routes()]


def _create_ops(
    settings: Settings,
    applier: Applier,
    refresher: UserRefresher,
    reconciles: ReconcileStarter | None,
    limits: TimeLimits,
) -> OpsContext | None:
    if settings.sync_ops_token is None:
        return None
    store = applier.store.with_database(LimitedDatabase(applier.store.database, MAX_OPS_CONNECTIONS))
    return OpsContext(
        authenticator=OpsAuthenticator(settings.sync_ops_token),
        store=store,
        replayer=create_replayer(applier, store, limits.replay_deletion),
        refresher=refresher,
        reconciles=reconciles,
        limits=limits,
    )


async def _readyz(request: Request) -> Response:
    readiness: Readiness = request.state.readiness
    return await readiness.endpoint(request)


async def _metrics(request: Request) -> Response:
    metrics: MetricsEndpoint = request.state.metrics
    return await metrics.endpoint(request)


def create_app_from_environment() -> ASGIApp:
    """Return the app with the settings of this process's environment; uvicorn calls it in each process it starts."""
    die_with_parent()
    settings = read_settings(os.environ, required=REQUIRED_TO_SERVE)
    configure_logging(level=settings.log_level, form=settings.log_format)
    app = create_app(settings, tracing=start_tracing(os.environ))
    limit_garbage_collection()
    return app
