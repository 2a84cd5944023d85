"""`make bench`: measures the README's figures, each beside a reference, and prints its tables.

ARGS="load growth" selects some. `publish` puts the results in tests/benchmarks/results into the documentation.
"""

import platform
import sys
from types import ModuleType

from tests.benchmarks import (
    decoding,
    endurance,
    growth,
    load,
    login,
    notifications,
    processes,
    publish,
    reconcile,
    recording,
    report,
    start,
    storage,
    storms,
)
from tests.benchmarks.tables import TABLES, render_tables

MODULES = (
    start,
    decoding,
    load,
    growth,
    storage,
    storms,
    recording,
    notifications,
    login,
    reconcile,
    processes,
    endurance,
)
BENCHMARKS: dict[str, ModuleType] = {module.__name__.rpartition(".")[2]: module for module in MODULES}


def main() -> None:
    """Run the named benchmarks, or all of them."""
    names = sys.argv[1:] or list(BENCHMARKS)
    if names == ["publish"]:
        publish.publish()
        return
    if unknown := set(names) - set(BENCHMARKS):
        sys.exit(f"unknown: {', '.join(sorted(unknown))}. There are: {', '.join(BENCHMARKS)}, publish.")
    print(f"{', '.join(names)}. All of them take about half an hour. Python {platform.python_version()}.")
    for name in names:
        title, _, _ = (BENCHMARKS[name].__doc__ or "").partition("\n")
        print(f"\n{name}: {title}", flush=True)
        BENCHMARKS[name].measure()
    if results := {name: result for name, result in report.RESULTS.items() if name in TABLES}:
        print(f"\n{render_tables(results)}")


main()
