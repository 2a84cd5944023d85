"""Rounds of load on one target: events are created and signed, then sent and measured."""

import itertools
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.benchmarks.bodies import make_body, make_request
from tests.benchmarks.generator import Order, Report, drive
from tests.benchmarks.targets import Target
from tests.benchmarks.usage import measure_cpu_seconds, measure_resident_megabytes

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
    def rate(self) -> float:
        """Responses per second."""
        return len(self.report.milliseconds) / self.report.seconds


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
        prepared = [self._event(number) for number in range(min(many, MAX_BARE_REQUESTS) if bare else many)]
        ports = list(self.ports) or [self.target.port]
        order = Order(ports, clients, seconds, bare, [sent for _, sent in prepared])
        before = measure_cpu_seconds(self.target.pid), measure_cpu_seconds(postgres)
        report = drive(order)
        after = measure_cpu_seconds(self.target.pid), measure_cpu_seconds(postgres)
        answered = len(report.milliseconds)
        self.sent += answered
        self.users += [user for user, _ in prepared[:answered] if user]
        self.megabytes = max(self.megabytes, measure_resident_megabytes(self.target.pid))
        done = Round(report, after[0] - before[0], after[1] - before[1])
        self.rates[clients] = done.rate
        return done

    def _needs_user(self, number: int) -> bool:
        return (self.creates and number % 2 == 0) or not self.users

    def _event(self, number: int) -> tuple[str | None, bytes]:
        """Return the request, and its user if it is a new one."""
        now = time.time_ns() // 1_000_000 + number  # each change is newer than the one before
        # An ID with Clerk's length and in random order, as Clerk's IDs.
        new = f"user_{os.urandom(14).hex()[:27]}" if self._needs_user(number) else None
        user = new or self.users[next(self._changed) % len(self.users)]
        body = make_body("user.created" if new else "user.updated", user, now)
        return new, make_request(self.target.path, f"msg_{os.urandom(14).hex()[:27]}", body)
