"""The folder where the processes of one service add up their metrics, and share figures of the database.

The environment variable that names it is prometheus_client's own. The library reads it when it is imported.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def forget_shared_folder() -> None:
    """Ignore a folder in the environment: it belongs to another program, or to an earlier run."""
    os.environ.pop(VARIABLE, None)


@contextlib.contextmanager
def create_shared_folder() -> Iterator[None]:
    """Within the block, give the processes that this one starts a new folder."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108  a full disk must not stop a process
    with tempfile.TemporaryDirectory(prefix="sync-metrics-", dir=memory) as folder:
        os.environ[VARIABLE] = folder
        yield


def find_shared_folder() -> Path | None:
    """Return the folder; None if the service has one process."""
    return Path(os.environ[VARIABLE]) if VARIABLE in os.environ else None
