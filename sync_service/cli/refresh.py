"""`users refresh`: ask Clerk about one user, and write the row as Clerk has it now."""

import argparse
import asyncio
import contextlib
import json
from collections.abc import Mapping

from sync_service.clerk.client import ClerkClient
from sync_service.clerk.limited_client import LimitedClient
from sync_service.clerk.rate_limit import RateLimiter
from sync_service.cli.database import describe_error, require_dsn
from sync_service.dev.state import load_settings
from sync_service.errors import (
    ClerkAuthError,
    ClerkUnavailable,
    DatabaseError,
    MappingMismatch,
    SyncError,
    UnconfirmedDeletion,
)
from sync_service.logs import configure_logging
from sync_service.postgres.pool import open_database
from sync_service.request_errors import RowRefused
from sync_service.settings import Settings
from sync_service.store.access import Store
from sync_service.store.audit import COMMAND
from sync_service.sync.apply import Applier
from sync_service.sync.login import Login
from sync_service.sync.reconcile import REJECTED_KEY
from sync_service.sync.refresh import UserRefresher
from sync_service.sync.user_actions import refresh_user

# Seconds. An operator waits longer than a login.
REFRESH_TIMEOUT = 10.0


def refresh(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Refresh the user and print the outcome. Raises `SyncError` if there is no row afterwards."""
    settings = load_settings(environ, "DATABASE_URL", "CLERK_SECRET_KEY")
    configure_logging(level=settings.log_level, form=settings.log_format)
    clerk_id = arguments.clerk_id
    outcome = asyncio.run(_refresh_or_explain(settings, clerk_id)).outcome
    print(json.dumps({"clerk_id": clerk_id, "outcome": outcome}) if arguments.json else f"{clerk_id}: {outcome}")
    return 0


async def _refresh_or_explain(settings: Settings, clerk_id: str) -> Login:
    try:
        return await _refresh(settings, clerk_id)
    except ClerkAuthError as error:
        raise SyncError(REJECTED_KEY.format(reason=error.reason)) from error
    except UnconfirmedDeletion as error:
        raise SyncError(f"{clerk_id}: Clerk does not know the user, but that proves no deletion: {error}.") from error
    except ClerkUnavailable as error:
        raise SyncError(f"Clerk cannot be asked ({error.reason}). Try again later.") from error
    except RowRefused as error:
        raise SyncError(f"{clerk_id}: the table refuses the row ({error.reason}).") from error
    except MappingMismatch:
        raise
    except DatabaseError as error:
        raise SyncError(describe_error(error)) from error


async def _refresh(settings: Settings, clerk_id: str) -> Login:
    key = settings.clerk_secret_key
    assert key is not None  # noqa: S101  `load_settings` requires it
    database = await open_database(require_dsn(settings))
    async with contextlib.aclosing(database), LimitedClient() as http:
        refresher = UserRefresher(
            Applier(Store(database, settings.mapping), max_attempts=settings.sync_max_attempts),
            ClerkClient(http, settings.clerk_api_url, key, timeout=REFRESH_TIMEOUT),
            RateLimiter(max_requests=1),
            max_age=settings.sync_max_age,
            instance_id=settings.clerk_instance_id,
        )
        return await refresh_user(database, refresher, clerk_id, COMMAND)
