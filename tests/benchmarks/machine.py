"""The machine and the versions that figures depend on."""

import os
import platform
import shutil
import statistics
import subprocess
import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from sync_service.dev.binaries import find_binaries


@cache
def describe_machine() -> dict[str, Any]:
    """Return the date, the machine, the versions and the duration of a durable write."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    node = shutil.which("node")
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "memory_gb": round(pages / 1e9),
        "postgresql": _read_version(find_binaries() / "postgres").split()[2],
        "python": platform.python_version(),
        "node": _read_version(Path(node)).removeprefix("v") if node else None,
        "durable_write_ms": round(measure_durable_write(), 2),
    }


def _read_version(program: Path) -> str:
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def measure_durable_write() -> float:
    """Return the milliseconds of one durable write, on which all figures depend."""
    taken = []
    probe = Path(os.environ.get("TMPDIR", "/tmp")) / f"bench-sync-{os.getpid()}"
    try:
        with probe.open("wb", buffering=0) as file:
            for _ in range(50):
                began = time.perf_counter()
                file.write(bytes(8192))
                os.fdatasync(file.fileno())
                taken.append((time.perf_counter() - began) * 1000)
    finally:
        probe.unlink()
    return statistics.median(taken)
