"""PgBouncer in transaction mode, with two connections to the server for everybody."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.processes import reserve_port

SIZE = 2

# 1.18 of Debian knows no `max_prepared_statements`; where it is known, 0 is what DB1 asks for.
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


def missing() -> str:
    """Return why there can be no pooler, or nothing."""
    return "" if _found() else "pgbouncer is not on the PATH: apt-get install pgbouncer"


def _found() -> str | None:
    # Debian puts it where only root's PATH looks.
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextlib.contextmanager
def pooled(target: int, folder: Path) -> Iterator[int]:
    """Run PgBouncer in front of that port for the length of the block, and yield its port."""
    port = reserve_port()
    found = _found()
    assert found
    ini = folder / "pgbouncer.ini"
    ini.write_text(INI.format(target=target, port=port, size=SIZE))
    log = folder / "pgbouncer.log"
    # It refuses to be root. Folders above may be closed to others, so it reads its settings from a descriptor.
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
