"""What is counted, in Prometheus' text. Totals only: no user, no secret, no setting can be had from them."""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.requests import Request
from starlette.responses import Response

# prometheus_client's own name: where it is set, the processes of one service add up in files there.
SHARED = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """The counters of one app."""

    def __init__(self) -> None:
        """Count from zero."""
        self._registry = CollectorRegistry()
        self.webhooks = Counter(
            "sync_service_webhooks",
            "Webhooks answered, by outcome or by the code of the refusal",
            ["outcome"],
            registry=self._registry,
        )
        self.logins = Counter(
            "sync_service_logins",
            "Calls of /sync answered, by outcome or by the code of the refusal",
            ["outcome"],
            registry=self._registry,
        )
        self.lookups = Counter(
            "sync_service_lookups",
            "Calls of /users answered, by outcome or by the code of the refusal",
            ["outcome"],
            registry=self._registry,
        )
        self.missed_webhooks = Counter(
            "sync_service_missed_webhooks",
            "Users that a login has brought and a webhook should have",
            registry=self._registry,
        )
        self.last_webhook = Gauge(
            "sync_service_last_accepted_webhook_timestamp_seconds",
            "When a webhook was last stored",
            registry=self._registry,
            multiprocess_mode="mostrecent",
        )

    async def answer(self, request: Request) -> Response:
        """GET /metrics."""
        registry = self._registry
        if SHARED in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library has no types here
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")
