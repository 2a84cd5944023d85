"""Two PostgreSQL servers under Patroni with the configuration of deploy/ha/, and etcd."""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sync_service.dev.binaries import find_all_binaries
from sync_service.process import die_with_parent
from tests.faults.engine import Engine
from tests.processes import has_ended_within, reserve_port
from tests.tools import require_tool
from tests.world import wait_until

CONFIGURATION = Path(__file__).resolve().parents[2] / "deploy" / "ha" / "patroni.yaml"
PASSWORD = "SECRET_SENTINEL"

# The start of a cluster, and a failover, which waits for the end of the primary's lock.
CLUSTER_TIMEOUT = 120


class Member(Engine):
    """One machine: Patroni and the server that it starts."""

    def __init__(self, folder: Path, name: str, environ: Mapping[str, str]) -> None:
        super().__init__(folder / name)
        self.api = f"127.0.0.1:{reserve_port()}"
        self.log = folder / f"{name}.log"
        address = f"127.0.0.1:{self.port}"
        self.environ = {
            **environ,
            "PATRONI_NAME": name,
            "PATRONI_RESTAPI_LISTEN": self.api,
            "PATRONI_RESTAPI_CONNECT_ADDRESS": self.api,
            "PATRONI_POSTGRESQL_LISTEN": address,
            "PATRONI_POSTGRESQL_CONNECT_ADDRESS": address,
            "PATRONI_POSTGRESQL_DATA_DIR": str(self.data),
        }
        self.patroni: subprocess.Popen[bytes] | None = None

    def dsn(self, database: str, port: int | None = None, query: str = "") -> str:
        """Return the DSN of a database of this server."""
        return f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port or self.port}/{database}{query}"

    def start(self) -> None:
        """Start Patroni, which starts the server."""
        self.patroni = start_as_nobody(
            [require_tool("patroni"), self.log.parent / "patroni.yaml"], self.log, self.environ
        )

    def kill(self) -> None:
        """Kill Patroni and all processes of the server at once, like a power cut."""
        assert self.patroni
        self._pid = int((self.data / "postmaster.pid").read_text().split()[0])
        victims = [self.patroni.pid, *self.processes()]
        self._signal(victims, signal.SIGKILL)
        assert all(has_ended_within(pid) for pid in victims)
        self.patroni.wait()

    def stop(self) -> None:
        """Stop Patroni, which stops the server."""
        if self.patroni:
            self.patroni.terminate()
            self.patroni.wait(60)

    async def has_role(self, role: str) -> bool:
        """Return whether Patroni says that the server is the `primary` or a synchronous standby (`sync`)."""
        async with httpx2.AsyncClient(timeout=5) as client:
            try:
                return (await client.get(f"http://{self.api}/{role}")).status_code == 200
            except httpx2.TransportError:
                return False


class Cluster:
    """Two members. The first one of `members` was the primary last."""

    def __init__(self, members: list[Member]) -> None:
        self.members = members

    def build_dsn(self, database: str) -> str:
        """Return a DSN with both hosts."""
        hosts = ",".join(f"127.0.0.1:{member.port}" for member in self.members)
        return f"postgresql://postgres:{PASSWORD}@{hosts}/{database}?target_session_attrs=read-write"

    async def wait_until_synchronous(self) -> Member:
        """Wait until there are a primary and its synchronous standby; return the primary."""
        await wait_until(self._is_synchronous, CLUSTER_TIMEOUT)
        return self.members[0]

    async def _is_synchronous(self) -> bool:
        await asyncio.sleep(0.2)
        first, second = self.members
        if await second.has_role("primary"):
            self.members = [second, first]
        return await self.members[0].has_role("primary") and await self.members[1].has_role("sync")


def start_as_nobody(command: list[Any], log: Path, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a program as a user who may run PostgreSQL; it ends with this process."""
    owner: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd="/",
            env={**os.environ, **environ},
            stdout=output,
            stderr=output,
            preexec_fn=lambda: die_with_parent(signal.SIGTERM),  # noqa: PLW1509  it calls the kernel only
            **owner,
        )


@contextlib.contextmanager
def run_cluster() -> Iterator[Cluster]:
    """Run etcd and two members within the block. Skips the test if a program is missing."""
    binaries = [place for place in find_all_binaries() if place.is_relative_to("/usr/lib/postgresql")]
    if not binaries:
        pytest.skip("Patroni of Debian needs PostgreSQL of Debian, in the package postgresql")
    etcd = require_tool("etcd")
    require_tool("patroni")
    folder = Path(tempfile.mkdtemp(prefix="sync-patroni-"))
    shutil.copy(CONFIGURATION, folder / "patroni.yaml")
    (folder / "patroni.yaml").chmod(0o644)
    if os.geteuid() == 0:
        os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
    client, peer = (f"127.0.0.1:{reserve_port()}" for _ in range(2))
    environ = {
        "HOME": str(folder),
        "PATRONI_ETCD3_HOSTS": client,
        "PATRONI_POSTGRESQL_BIN_DIR": str(binaries[0]),
        "PATRONI_SUPERUSER_PASSWORD": PASSWORD,
        "PATRONI_REPLICATION_PASSWORD": PASSWORD,
    }
    members = [Member(folder, name, environ) for name in ("one", "two")]
    process = start_as_nobody([etcd, *_list_etcd_options(folder / "etcd", client, peer)], folder / "etcd.log", {})
    try:
        for member in members:
            member.start()
        yield Cluster(members)
    finally:
        for member in members:
            member.stop()
        process.terminate()
        process.wait(60)
        shutil.rmtree(folder)


def _list_etcd_options(data: Path, client: str, peer: str) -> list[str]:
    options = {
        "data-dir": str(data),
        "listen-client-urls": f"http://{client}",
        "advertise-client-urls": f"http://{client}",
        "listen-peer-urls": f"http://{peer}",
        "initial-advertise-peer-urls": f"http://{peer}",
        "initial-cluster": f"default=http://{peer}",
    }
    return [f"--{name}={value}" for name, value in options.items()]
