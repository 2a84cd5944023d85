"""Parts of the app that depend on the settings."""

import asyncio

import httpx2

from sync_service.clerk.client import ClerkClient
from sync_service.clerk.jwks import KeySource, key_source_from
from sync_service.clerk.list_requests import LIST_TIMEOUT, create_limiter
from sync_service.clerk.session_tokens import SessionTokenVerifier
from sync_service.clerk.user_list import UserList
from sync_service.dsn import Dsn
from sync_service.postgres.limited_access import LimitedDatabase
from sync_service.settings import Settings
from sync_service.store.access import Store
from sync_service.sync.apply import Applier
from sync_service.sync.carry_over import CarryOverService
from sync_service.sync.change_signal import ChangeSignal
from sync_service.sync.reconcile import Reconciler
from sync_service.sync.reconcile_request import ReconcileStarter
from sync_service.sync.reconcile_schedule import ReconcileSchedule
from sync_service.sync.refresh import UserRefresher
from sync_service.sync.replay import create_replayer
from sync_service.web.health import Readiness
from sync_service.web.limits import TimeLimits
from sync_service.web.metrics.database_figures import DatabaseFigures
from sync_service.web.metrics.endpoint import MetricsEndpoint
from sync_service.web.metrics.families import Metrics
from sync_service.web.metrics.process_gauges import ProcessGauges
from sync_service.web.metrics.shared_folder import find_shared_folder
from sync_service.web.ops.auth import OpsAuthenticator
from sync_service.web.ops.context import OpsContext

# Of the pool's ten connections, so that operators and deliveries cannot keep webhooks and logins waiting.
MAX_OPS_CONNECTIONS = 2

MAX_NOTIFIER_CONNECTIONS = 1

# A carry-over of many rows holds a connection for many statements, and repeats of one ID wait for each other.
MAX_CARRY_OVER_CONNECTIONS = 3


def create_key_source(settings: Settings, client: httpx2.AsyncClient) -> KeySource | None:
    """Return the keys of session tokens that the settings name, or None."""
    return key_source_from(
        client,
        jwt_key=settings.clerk_jwt_key,
        jwks_url=settings.jwks_url,
        api_url=settings.clerk_api_url,
        secret_key=settings.clerk_secret_key,
    )


def create_token_verifier(settings: Settings, keys: KeySource | None) -> SessionTokenVerifier | None:
    """Return the verifier of session tokens, None without a key for them."""
    if keys is None:
        return None
    return SessionTokenVerifier(
        keys,
        issuer=settings.issuer,
        parties=settings.clerk_authorized_parties,
        instance_id=settings.clerk_instance_id,
        max_lifetime=settings.sync_max_token_lifetime,
    )


def create_clerk_client(settings: Settings, client: httpx2.AsyncClient, limits: TimeLimits) -> ClerkClient | None:
    """Return the client of Clerk's API, None without a key for it."""
    key = settings.clerk_secret_key
    return ClerkClient(client, settings.clerk_api_url, key, timeout=limits.clerk_request) if key else None


def create_metrics_endpoint(
    metrics: Metrics, store: Store, readiness: Readiness, gauges: ProcessGauges
) -> MetricsEndpoint:
    """Return the endpoint with the figures of this process and of the database."""
    figures = DatabaseFigures(store, readiness, find_shared_folder())
    return MetricsEndpoint(metrics, figures, gauges.update)


def create_reconciles(
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


def create_carry_overs(store: Store) -> CarryOverService:
    """Return the service that writes data from before sign-up."""
    return CarryOverService(store.with_database(LimitedDatabase(store.database, MAX_CARRY_OVER_CONNECTIONS)))


def start_notifier(
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


def create_ops(
    settings: Settings,
    applier: Applier,
    refresher: UserRefresher,
    reconciles: ReconcileStarter | None,
    limits: TimeLimits,
) -> OpsContext | None:
    """Return the objects of the operators' interface, None without a token for it."""
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
