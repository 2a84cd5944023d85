"""The results of benchmarks: kept for the tables at the end, and as JSON in the folder that BENCH_OUTPUT names."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.machine import describe_machine

# The results of this run by the name of the benchmark.
RESULTS: dict[str, dict[str, Any]] = {}


def write_rows(name: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Keep the results of a benchmark, and write `<name>.json` if BENCH_OUTPUT names a folder."""
    RESULTS[name] = describe_machine() | {"rows": list(rows)}
    if folder := os.environ.get("BENCH_OUTPUT"):
        file = Path(folder, f"{name}.json")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(RESULTS[name], indent=1) + "\n")
        print(f"  written: {file}")
