"""`make bench`: the README's figures, measured here and now, each beside what it is compared with."""

import os
import platform
import sys
from collections.abc import Callable

from tests.benchmarks import decoding, load, login, start, webhook

BENCHMARKS: dict[str, Callable[[], None]] = {
    "start": start.measure,
    "decoding": decoding.measure,
    "webhook": webhook.measure,
    "load": load.measure,
    "login": login.measure,
}


def main() -> None:
    """Run those that are named, or all."""
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores")
    for name in sys.argv[1:] or BENCHMARKS:
        print(f"\n{name}")
        BENCHMARKS[name]()


main()
