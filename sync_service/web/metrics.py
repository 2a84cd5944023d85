"""Metrics in Prometheus' text format. They are totals only: no user, secret or setting can be derived from them."""

import contextlib
import os
from collections.abc import Iterator

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.requests import Request
from starlette.responses import Response

from sync_service.errors import ClerkAuthError, ClerkUnavailable, DatabaseError, RequestError
from sync_service.logs import lost_lines

log = structlog.get_logger()

# The name is prometheus_client's own. It is the folder where the processes of one service add up their counters.
MULTIPROCESS_DIR_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """The counters of one app."""

    def __init__(self) -> None:
        """Start all counters at zero."""
        self._registry = CollectorRegistry()
        self.webhooks = Counter(
            "sync_service_webhooks",
            "Webhook responses by outcome or error code",
            ["outcome"],
            registry=self._registry,
        )
        self.logins = Counter(
            "sync_service_logins",
            "Responses of /sync by outcome or error code",
            ["outcome"],
            registry=self._registry,
        )
        self.lookups = Counter(
            "sync_service_lookups",
            "Responses of /users by outcome or error code",
            ["outcome"],
            registry=self._registry,
        )
        self.missed_webhooks = Counter(
            "sync_service_missed_webhooks",
            "Users first seen at login although a webhook was due",
            registry=self._registry,
        )
        log_lines_lost = Counter(
            "sync_service_log_lines_lost",
            "Log lines that could not be written",
            registry=self._registry,
        )
        lost_lines.report_to(log_lines_lost.inc)
        self.last_webhook = Gauge(
            "sync_service_last_accepted_webhook_timestamp_seconds",
            "Unix time at which a webhook was last stored",
            registry=self._registry,
            multiprocess_mode="mostrecent",
        )

    async def endpoint(self, request: Request) -> Response:
        """Return the metrics of all processes of the service (GET /metrics)."""
        registry = self._registry
        if MULTIPROCESS_DIR_VARIABLE in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library has no types here
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")


@contextlib.contextmanager
def count_errors(counter: Counter, event: str) -> Iterator[None]:
    """Count an error by its code, log it as `event`, and raise it again.

    A `DatabaseError` is counted only; `problems.database_error` logs it.
    """
    try:
        yield
    except RequestError as error:
        counter.labels(error.code).inc()
        log.info(event, code=error.code, reason=error.reason, detail=str(error), hint=error.hint)
        raise
    except ClerkUnavailable as error:
        counter.labels("clerk_unavailable").inc()
        hint = None
        if isinstance(error, ClerkAuthError):
            hint = "Clerk rejects CLERK_SECRET_KEY, or the key belongs to another instance"
        log.warning(event, code="clerk_unavailable", reason=error.reason, hint=hint)
        raise
    except DatabaseError:
        counter.labels("unavailable").inc()
        raise
