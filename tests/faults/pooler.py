"""PgBouncer in transaction mode, with two connections to the server."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.processes import reserve_port

SIZE = 2

# Debian's version 1.18 has no `max_prepared_statements`; in later versions its value must be 0 (DB1).
INI = """
[databases]
* = host=127.0.0.1 port={target} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {size}
server_lifetime = 5
"""


def explain_missing_pgbouncer() -> str:
    """Return the reason why PgBouncer cannot run, or an empty text."""
    return "" if _find_pgbouncer() else "pgbouncer is not on the PATH: apt-get install pgbouncer"


def _find_pgbouncer() -> str | None:
    # Debian installs it in a directory that is only on root's PATH.
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextlib.contextmanager
def run_pgbouncer(target: int, folder: Path) -> Iterator[int]:
    """Run PgBouncer in front of that port within the block, and yield its port."""
    port = reserve_port()
    found = _find_pgbouncer()
    assert found
    ini = folder / "pgbouncer.ini"
    ini.write_text(INI.format(target=target, port=port, size=SIZE))
    log = folder / "pgbouncer.log"
    # PgBouncer refuses to run as root. Parent directories may be closed to other users, so it reads its settings from a
    # descriptor.
    owner = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    with log.open("wb") as output, ini.open("rb") as settings:
        process = subprocess.Popen(
            [found, f"/dev/fd/{settings.fileno()}"],
            pass_fds=(settings.fileno(),),
            stdout=output,
            stderr=output,
            **owner,  # type: ignore[call-overload]
        )
    try:
        deadline = time.monotonic() + 20
        while "process up" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()
