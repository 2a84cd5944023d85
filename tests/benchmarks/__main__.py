"""`make bench`: measures the README's figures, each beside a reference."""

import os
import platform
import sys
from collections.abc import Callable

from tests.benchmarks import (
    decoding,
    endurance,
    growth,
    load,
    login,
    notifications,
    processes,
    reconcile,
    recording,
    start,
    storage,
    storms,
    webhook,
)

BENCHMARKS: dict[str, Callable[[], None]] = {
    "start": start.measure,
    "decoding": decoding.measure,
    "webhook": webhook.measure,
    "load": load.measure,
    "growth": growth.measure,
    "storage": storage.measure,
    "storms": storms.measure,
    "recording": recording.measure,
    "notifications": notifications.measure,
    "login": login.measure,
    "reconcile": reconcile.measure,
    "processes": processes.measure,
    "endurance": endurance.measure,
}


def main() -> None:
    """Run the named benchmarks, or all of them."""
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores")
    for name in sys.argv[1:] or BENCHMARKS:
        print(f"\n{name}")
        BENCHMARKS[name]()


main()
