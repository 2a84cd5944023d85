"""The gauges of one process: connections, and requests to Clerk."""

import time
from dataclasses import dataclass

from sync_service.clerk.client import ClerkClient
from sync_service.clerk.jwks import KeySource
from sync_service.clerk.rate_limit import RateLimiter
from sync_service.postgres.pool import MAX_CONNECTIONS, Database
from sync_service.web.metrics.families import NO_SAMPLE, Metrics


@dataclass(frozen=True, slots=True)
class ProcessGauges:
    """Sets the gauges from their sources. `client` and `keys` are None if no setting names one."""

    metrics: Metrics
    database: Database
    limiter: RateLimiter
    client: ClerkClient | None
    keys: KeySource | None

    def update(self) -> None:
        """Set all gauges."""
        now = time.monotonic()
        self.metrics.pool_in_use.set(self.database.connections_in_use)
        self.metrics.pool_max.set(MAX_CONNECTIONS)
        is_open = self.client is not None and self.client.pause > 0
        self.metrics.clerk_quota.set(0 if is_open else self.limiter.count_remaining(now))
        self.metrics.clerk_breaker.set(is_open)
        age = self.keys.age if self.keys else None
        self.metrics.jwks_age.set(NO_SAMPLE if age is None else age)
