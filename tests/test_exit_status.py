"""The exit status of a server whose processes cannot start."""

from pathlib import Path

import pytest

from tests.processes import HANG_SECONDS, start_command
from tests.world import SECRET

# Each Python process imports the module of this name. It makes the app of a server process fail at its start.
BROKEN = """
import asyncpg

def refuse(*arguments, **options):
    raise RuntimeError("broken")

asyncpg.create_pool = refuse
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_process_that_cannot_start_is_status_1(tmp_path: Path, database: str, workers: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(BROKEN)
    environ = {"DATABASE_URL": database, "CLERK_WEBHOOK_SIGNING_SECRET": SECRET, "WEB_CONCURRENCY": workers}
    with start_command("serve", cwd=tmp_path, PYTHONPATH=str(tmp_path), **environ) as service:
        assert service.popen.wait(HANG_SECONDS) == 1
