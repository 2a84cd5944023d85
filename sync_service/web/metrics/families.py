"""The metric families of one process: counters, histograms and gauges. All series exist from the start."""

import contextlib
from collections.abc import Iterator

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from sync_service.errors import ClerkAuthError, ClerkUnavailable, DatabaseError
from sync_service.log_file import lost_lines
from sync_service.request_errors import RequestError

log = structlog.get_logger()

# A response is due within 10 s.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
EVENTS = (1, 2, 4, 8, 16, 32)

APPLIED = ("applied", "stale", "duplicate", "ignored", "parked")
BODY_ERRORS = ("body_too_large", "slow_body")
FAULTS = ("unavailable", "internal_server_error")

OUTCOMES = {
    "webhooks": (
        *APPLIED,
        *("missing_headers", "bad_timestamp", "bad_signature", "bad_payload", "wrong_instance"),
        *BODY_ERRORS,
        *FAULTS,
    ),
    "logins": (
        *("current", "created", "updated", "unverified"),
        *("bad_request", "bad_token", "wrong_user", "unknown_user", "deleted_user", "row_refused"),
        *("too_many_requests", "clerk_unavailable"),
        *BODY_ERRORS,
        *FAULTS,
    ),
    "lookups": (
        *("found", "resolved", "bad_request", "bad_token", "unknown_user", "deleted_user"),
        *BODY_ERRORS,
        *FAULTS,
    ),
    "retries": (*APPLIED, "unavailable"),
    "clerk_requests": (
        *("ok", "not_found", "refused", "auth_error", "rate_limited", "server_error"),
        *("timeout", "network_error"),
    ),
    "deliveries": ("delivered", "failed", "dead"),
}

# The value of a gauge without a sample. Processes combine their values, so a missing one needs a number, too.
NO_SAMPLE = -1.0


class Metrics:
    """The families of one app.

    The mode of a gauge combines the values of living processes: their sum, or the greatest one.
    """

    def __init__(self, version: str) -> None:
        """Create all series."""
        # The time of creation of each counter would be a family of its own.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types here
        self.registry = CollectorRegistry()
        self.webhooks = self._counter("webhooks", "Answered webhooks by outcome or refusal code")
        self.logins = self._counter("logins", "Answered calls of /sync by outcome or refusal code")
        self.lookups = self._counter("lookups", "Answered calls of /users by outcome or refusal code")
        self.retries = self._counter("retries", "Automatic attempts and replays by outcome")
        self.clerk_requests = self._counter("clerk_requests", "Requests to the Backend API of Clerk by outcome")
        self.deliveries = self._counter("deliveries", "Deliveries of changes by outcome")
        self.missed_webhooks = self._counter("missed_webhooks", "Users first created by a login")
        lost_lines.report_to(self._counter("log_lines_lost", "Log lines that could not be written").inc)

        self.webhook_seconds = self._histogram(
            "webhook_duration_seconds", "Time of a webhook from its request head to the response", SECONDS
        )
        self.login_seconds = self._histogram("login_duration_seconds", "Time of a call of /sync", SECONDS)
        self.batch_size = self._histogram("batch_size", "Events of one transaction", EVENTS)

        self.clerk_quota = self._gauge(
            "clerk_quota_remaining", "Requests to Clerk that logins may make at this moment", "livesum"
        )
        self.clerk_breaker = self._gauge("clerk_breaker_open", "1 while requests to Clerk are paused", "livemax")
        self.pool_in_use = self._gauge("pool_connections_in_use", "Database connections in use", "livesum")
        self.pool_max = self._gauge("pool_connections_max", "Database connections that may be open", "livesum")
        self.jwks_age = self._gauge("jwks_age_seconds", "Age of the key set of session tokens", "livemax")
        self.jwks_age.set(NO_SAMPLE)
        build_info = self._gauge("build_info", "1, with the version of the service", "livemax", ("version",))
        build_info.labels(version).set(1)

    def _counter(self, name: str, text: str) -> Counter:
        outcomes = OUTCOMES.get(name, ())
        labels = ["outcome"] if outcomes else []
        counter = Counter(f"sync_service_{name}", text, labels, registry=self.registry)
        for outcome in outcomes:
            counter.labels(outcome)
        return counter

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"sync_service_{name}", text, buckets=buckets, registry=self.registry)

    def _gauge(self, name: str, text: str, mode: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"sync_service_{name}", text, labels, multiprocess_mode=mode, registry=self.registry)  # type: ignore[arg-type]  # one of the library's literals


@contextlib.contextmanager
def count_errors(counter: Counter, event: str) -> Iterator[None]:
    """Count an error by its code, log it as `event`, and raise it again.

    A `DatabaseError` and an unexpected exception are counted only; web/problems.py logs them.
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
    except Exception:
        counter.labels("internal_server_error").inc()
        raise
