"""The time from `sync-service dev` to ready, on a machine that has run it before."""

import statistics
import tempfile
import time
from pathlib import Path

from tests.processes import start_command

ROUNDS = 5


def measure() -> None:
    """Print the time of the first start, which creates the database, and of later ones."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = []
        for _ in range(ROUNDS + 1):
            began = time.perf_counter()
            with start_command("dev", cwd=Path(folder), QUIET="1") as dev:
                dev.wait_for('"event":"ready"')
                seconds.append(time.perf_counter() - began)
                dev.stop()
    print(f"  first start, with initdb   {seconds[0]:5.2f} s")
    print(f"  later starts, median of {ROUNDS}  {statistics.median(seconds[1:]):5.2f} s")
