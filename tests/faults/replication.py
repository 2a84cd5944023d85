"""A primary PostgreSQL server and its synchronous standby."""

import asyncio
import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sync_service.dev.binaries import find_binaries, reachable
from tests.faults.engine import Engine

# Like PostgreSQL's default, but open to the standby.
HBA = """
local all all trust
host all all 127.0.0.1/32 trust
host replication all 127.0.0.1/32 trust
"""

IS_SYNCHRONOUS = "select exists (select from pg_stat_replication where sync_state = 'sync')"


class Pair:
    """Two servers; each commit of the primary waits until the standby has it on its disk."""

    def __init__(self, folder: Path, access: Path) -> None:
        (access / "hba.conf").write_text(HBA)
        # Killed processes lose no data that they have written, so the servers need not wait for the disk.
        settings = {"hba_file": str(access / "hba.conf"), "fsync": "off"}
        self.primary = Engine(folder / "one", **settings)
        self.standby = Engine(folder / "two", **settings)

    def build_dsn(self, database: str) -> str:
        """Return a DSN with both hosts."""
        hosts = ",".join(f"127.0.0.1:{engine.port}" for engine in (self.primary, self.standby))
        return f"postgresql://postgres@{hosts}/{database}?target_session_attrs=primary"

    async def add_standby(self) -> None:
        """Start a synchronous standby with a copy of the primary server."""
        shutil.rmtree(self.standby.data, ignore_errors=True)
        await asyncio.to_thread(_copy_data, self.primary.port, self.standby.data)
        await asyncio.to_thread(self.standby.start)
        async with self.primary.connect("postgres") as db:
            await db.execute("alter system set synchronous_standby_names = '*'")
            await db.execute("select pg_reload_conf()")
            async with asyncio.timeout(30):
                while not await db.fetchval(IS_SYNCHRONOUS):  # noqa: ASYNC110  PostgreSQL sends no notification
                    await asyncio.sleep(0.02)

    async def promote(self) -> None:
        """Make the standby the primary server, without a standby of its own. The other server must be down."""
        self.primary, self.standby = self.standby, self.primary
        async with self.primary.connect("postgres") as db:
            # A later copy has this setting, and no commit may wait for a standby that does not exist.
            await db.execute("select pg_promote()")
            await db.execute("alter system reset synchronous_standby_names")
            await db.execute("select pg_reload_conf()")

    def stop(self) -> None:
        """Stop both servers; the standby first, because the primary waits for it."""
        for engine in (self.standby, self.primary):
            engine.stop()


def _copy_data(port: int, target: Path) -> None:
    """Make the data folder of a standby."""
    program = reachable(find_binaries()) / "pg_basebackup"
    source = f"host=127.0.0.1 port={port} user=postgres"
    command = [str(program), "-d", source, "-D", str(target), "--checkpoint=fast", "--no-sync", "--write-recovery-conf"]
    subprocess.run(command, check=True, capture_output=True)
    if os.geteuid() == 0:  # the server runs as this user
        nobody = pwd.getpwnam("nobody")
        for path in (target, *target.rglob("*")):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)


@contextlib.contextmanager
def run_pair(folder: Path) -> Iterator[Pair]:
    """Run both servers within the block."""
    access = Path(tempfile.mkdtemp(prefix="sync-access-"))
    access.chmod(0o755)
    pair = Pair(folder, access)
    try:
        pair.primary.start()
        asyncio.run(pair.add_standby())
        yield pair
    finally:
        pair.stop()
        shutil.rmtree(access)
