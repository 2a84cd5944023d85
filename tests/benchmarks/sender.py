"""Rounds of load on one target: events are created and signed, then sent and measured."""

import asyncio
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sync_service.dev.embedded import EmbeddedServer
from tests.benchmarks.bodies import make_body, make_id, make_request
from tests.benchmarks.generator import Order, Report, drive
from tests.benchmarks.targets import Target
from tests.benchmarks.usage import measure_cpu_seconds, measure_resident_megabytes, read_written_bytes

# Rounds end by time. For the next round 1.5 times the requests of the last one are signed. If they run out, the round
# ends early with the same rate.
RESERVE_FACTOR = 1.5
FIRST_ROUND_REQUESTS = 2_000
# The bare route does not read the body, so requests may repeat.
MAX_BARE_REQUESTS = 8_000


@dataclass
class Round:
    """The result of one round of one target."""

    report: Report
    service_cpu: float
    postgres_cpu: float
    wal_bytes: int = 0
    disk_bytes: int = 0

    @property
    def answered(self) -> int:
        """The number of responses."""
        return len(self.report.milliseconds)

    @property
    def rate(self) -> float:
        """Responses per second."""
        return self.answered / self.report.seconds


@dataclass
class Sender:
    """Creates the events of one target: half of them new users if it `creates` users, the others updates."""

    target: Target
    # Further processes with the same route share the load.
    ports: Sequence[int] = ()
    sent: int = 0
    users: list[str] = field(default_factory=list)
    rates: dict[int, float] = field(default_factory=dict)
    megabytes: float = 0
    creates: bool = True
    _changed: Iterator[int] = field(default_factory=itertools.count)

    def run_round(self, clients: int, seconds: float, postgres: int) -> Round:
        """Sign the requests, then send and measure them."""
        bare = self.target.path == "/bare"
        many = int(self.rates[clients] * seconds * RESERVE_FACTOR) if clients in self.rates else FIRST_ROUND_REQUESTS
        prepared = self.prepare(min(many, MAX_BARE_REQUESTS) if bare else many)
        ports = list(self.ports) or [self.target.port]
        order = Order(ports, clients, seconds, bare, [sent for _, sent in prepared])
        before = measure_cpu_seconds(self.target.pid), measure_cpu_seconds(postgres)
        report = drive(order)
        after = measure_cpu_seconds(self.target.pid), measure_cpu_seconds(postgres)
        self.sent += len(report.milliseconds)
        self.users += [user for user, _ in prepared[: len(report.milliseconds)] if user]
        self.megabytes = max(self.megabytes, measure_resident_megabytes(self.target.pid))
        done = Round(report, after[0] - before[0], after[1] - before[1])
        self.rates[clients] = done.rate
        return done

    def prepare(self, many: int) -> list[tuple[str | None, bytes]]:
        """Create and sign requests. Each has its user if it is a new one."""
        return [self._event(number) for number in range(many)]

    def _needs_user(self, number: int) -> bool:
        return (self.creates and number % 2 == 0) or not self.users

    def _event(self, number: int) -> tuple[str | None, bytes]:
        now = time.time_ns() // 1_000_000 + number  # each change is newer than the one before
        new = make_id("user_", now) if self._needs_user(number) else None
        user = new or self.users[next(self._changed) % len(self.users)]
        body = make_body("user.created" if new else "user.updated", user, now)
        return new, make_request(self.target.path, make_id("msg_", now), body)


def run_measured_round(sender: Sender, clients: int, seconds: float, postgres: EmbeddedServer) -> Round:
    """Run a round, and add the bytes that PostgreSQL wrote within it."""
    before = asyncio.run(read_written_bytes(postgres.dsn()))
    done = sender.run_round(clients, seconds, postgres.pid)
    after = asyncio.run(read_written_bytes(postgres.dsn()))
    done.wal_bytes, done.disk_bytes = after[0] - before[0], after[1] - before[1]
    return done


def compute_percentiles(rounds: Sequence[Round]) -> tuple[float, float, float]:
    """Return the 50th, the 99th and the 99.9th percentile of the milliseconds."""
    cuts = statistics.quantiles((taken for one in rounds for taken in one.report.milliseconds), n=1000)
    return cuts[499], cuts[989], cuts[998]


def compute_ratio(these: Sequence[Round], those: Sequence[Round]) -> float:
    """Return the median of the ratios of two targets' rates in the same rounds."""
    return statistics.median(this.rate / that.rate for this, that in zip(these, those, strict=True))


def compute_costs(rounds: Sequence[Round]) -> dict[str, float]:
    """Return the CPU seconds of 1,000 webhooks, and the written bytes of one."""
    answered = sum(one.answered for one in rounds)
    return {
        "cpu": sum(one.service_cpu for one in rounds) / answered * 1000,
        "cpu_postgres": sum(one.postgres_cpu for one in rounds) / answered * 1000,
        "wal": sum(one.wal_bytes for one in rounds) / answered,
        "disk": sum(one.disk_bytes for one in rounds) / answered,
    }
