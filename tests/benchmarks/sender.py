"""Rounds of load on one target: events made and signed, sent, and what it took."""

import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.benchmarks.bodies import body_of, request
from tests.benchmarks.generator import Order, Report, drive
from tests.benchmarks.targets import Target
from tests.benchmarks.usage import cpu_seconds, resident_megabytes

# Rounds end by time. That many more requests than the last round needed are signed for the next; should it use them
# up, it ends there, and its rate is still the rate.
RESERVE = 1.5
FIRST = 2_000
# The bare route looks at nothing, so it may see a request again.
MOST_FOR_BARE = 8_000


@dataclass
class Round:
    """What one round of one target gave."""

    report: Report
    service_cpu: float
    postgres_cpu: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.report.milliseconds) / self.report.seconds


@dataclass
class Sender:
    """Makes the events of one target: half of them new users, half changes of users that are there by then."""

    target: Target
    sent: int = 0
    users: list[str] = field(default_factory=list)
    rates: dict[int, float] = field(default_factory=dict)
    megabytes: float = 0
    _changed: Iterator[int] = field(default_factory=itertools.count)

    def round(self, clients: int, seconds: float, postgres: int) -> Round:
        """Sign, then send; only the sending is measured."""
        bare = self.target.path == "/bare"
        many = int(self.rates[clients] * seconds * RESERVE) if clients in self.rates else FIRST
        prepared = [self._event(number) for number in range(min(many, MOST_FOR_BARE) if bare else many)]
        order = Order(self.target.port, clients, seconds, bare, [sent for _, sent in prepared])
        before = cpu_seconds(self.target.pid), cpu_seconds(postgres)
        report = drive(order)
        after = cpu_seconds(self.target.pid), cpu_seconds(postgres)
        answered = len(report.milliseconds)
        self.sent += answered
        self.users += [user for user, _ in prepared[:answered] if user]
        self.megabytes = max(self.megabytes, resident_megabytes(self.target.pid))
        done = Round(report, after[0] - before[0], after[1] - before[1])
        self.rates[clients] = done.rate
        return done

    def _event(self, number: int) -> tuple[str | None, bytes]:
        """Return the user if it is a new one, and the request."""
        now = time.time_ns() // 1_000_000 + number  # each change is newer than the one before
        # An ID of Clerk's length, in no order, as Clerk's are.
        new = f"user_{os.urandom(14).hex()[:27]}" if number % 2 == 0 or not self.users else None
        user = new or self.users[next(self._changed) % len(self.users)]
        body = body_of("user.created" if new else "user.updated", user, now)
        return new, request(self.target.path, f"msg_{os.urandom(14).hex()[:27]}", body)
