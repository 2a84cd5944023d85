"""The ASGI app, created from settings by a function; importing this module has no side effects."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from importlib.metadata import version

import structlog
from starlette.applications import Starlette
from starlette.types import ASGIApp

from sync_service.clerk.observed_client import ObservedClient
from sync_service.clerk.rate_limit import RateLimiter
from sync_service.clerk.webhook_signature import WebhookVerifier
from sync_service.errors import SettingsError
from sync_service.logs import configure_logging
from sync_service.postgres.pool import open_database
from sync_service.process import die_with_parent, limit_garbage_collection
from sync_service.request_errors import NoTokenKey
from sync_service.settings import REQUIRED_TO_SERVE, Settings, read_settings
from sync_service.store.access import Store
from sync_service.sync.apply import Applier
from sync_service.sync.change_signal import ChangeSignal
from sync_service.sync.login import LoginService
from sync_service.sync.maintenance import MaintenanceWorker
from sync_service.sync.refresh import UserRefresher
from sync_service.tracing import Tracing, start_tracing
from sync_service.web.auth import Authenticator
from sync_service.web.changes import ChangesEndpoint
from sync_service.web.components import (
    create_carry_overs,
    create_clerk_client,
    create_key_source,
    create_metrics_endpoint,
    create_ops,
    create_reconciles,
    create_token_verifier,
    start_notifier,
)
from sync_service.web.health import Readiness
from sync_service.web.limits import TimeLimits
from sync_service.web.metrics.families import Metrics
from sync_service.web.metrics.process_gauges import ProcessGauges
from sync_service.web.middleware import RequestLogMiddleware
from sync_service.web.ops.routes import OpsHeaders
from sync_service.web.problems import HANDLERS
from sync_service.web.routes import create_routes
from sync_service.web.sync import SyncEndpoint
from sync_service.web.users import UserEndpoints
from sync_service.web.webhooks import WebhookEndpoint

log = structlog.get_logger()

# A webhook takes 10 s at most. A platform kills the process after 10 s (Docker) or 30 s (Heroku).
STOP_TIMEOUT = 10

# Requests to Clerk in 10 s: four fifths of a production instance's quota, shared by the processes of one service. A
# development instance has a smaller quota: Clerk rejects the excess, and the service then pauses its requests.
MAX_CLERK_REQUESTS = 800

DEFAULT_LIMITS = TimeLimits()


def create_app(settings: Settings, limits: TimeLimits = DEFAULT_LIMITS, tracing: Tracing | None = None) -> ASGIApp:
    """Return the app. It opens connections only after its start, and it starts without the database, too.

    Raises `SettingsError`.
    """
    if settings.database is None or not settings.clerk_webhook_signing_secrets:
        raise SettingsError([f"{name}: not set" for name in REQUIRED_TO_SERVE])
    dsn = settings.database
    metrics = Metrics(version("sync-service"))
    verifier = WebhookVerifier(settings.clerk_webhook_signing_secrets)

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
        authenticator = Authenticator(create_token_verifier(settings, keys), settings.sync_api_token)
        clerk = create_clerk_client(settings, client, limits)
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
        metrics_endpoint = create_metrics_endpoint(metrics, store, readiness, gauges)
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
        schedule, reconciles = create_reconciles(settings, dsn, applier, client)
        if schedule:
            background.append(asyncio.create_task(schedule.run()))
        background += start_notifier(settings, store, metrics, commits)
        if keys is None:
            log.warning("session_tokens_disabled", hint=NoTokenKey.hint)
        else:
            background.append(asyncio.create_task(keys.refresh()))  # so that the first login need not wait for it
        try:
            yield {
                "webhook": WebhookEndpoint(verifier, applier, metrics, limits, settings.clerk_instance_id),
                "readiness": readiness,
                "metrics": metrics_endpoint,
                "sync": SyncEndpoint(authenticator, login_service, create_carry_overs(store), metrics, limits),
                "changes": ChangesEndpoint(authenticator, store, commits, limits),
                "users": UserEndpoints(authenticator, refresher, applier, metrics, limits),
                "ops": create_ops(settings, applier, refresher, reconciles, limits),
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

    routes = create_routes(settings)
    app = Starlette(routes=routes, exception_handlers=HANDLERS, lifespan=lifespan)
    with_log = RequestLogMiddleware(OpsHeaders(app), fast_route=routes[0])
    return tracing.wrap(with_log) if tracing else with_log


def create_app_from_environment() -> ASGIApp:
    """Return the app with the settings of this process's environment; uvicorn calls it in each process it starts."""
    die_with_parent()
    settings = read_settings(os.environ, required=REQUIRED_TO_SERVE)
    configure_logging(level=settings.log_level, form=settings.log_format)
    app = create_app(settings, tracing=start_tracing(os.environ))
    limit_garbage_collection()
    return app
