"""The listening address: both IP versions, hosts that are no address of this machine, idle connections."""

import asyncio
import http.client
import socket
from pathlib import Path

import pytest

from sync_service.web.listener import bind_sockets
from tests.processes import run_command, run_here, start_command
from tests.world import SECRET

READY = r'"event":"ready"'

pytestmark = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")


@pytest.mark.parametrize(("host", "workers"), [("::", "1"), ("[::]", "2")])
def test_the_ipv6_wildcard_listens_on_both_versions(tmp_path: Path, database: str, host: str, workers: str) -> None:
    """One process accepted only IPv6, several accepted both."""
    environ = {"DATABASE_URL": database, "CLERK_WEBHOOK_SIGNING_SECRET": SECRET, "WEB_CONCURRENCY": workers}
    with start_command("serve", cwd=tmp_path, HOST=host, **environ) as service:
        service.wait_for(READY)
        for address in ("127.0.0.1", "::1"):
            connection = http.client.HTTPConnection(address, service.port)
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == 200
            connection.close()


@pytest.mark.parametrize("host", ["x86_64-conda-linux-gnu", "192.0.2.1", "host.invalid", "a" * 300, ".."])
def test_a_host_that_is_not_an_address_of_this_machine_is_status_2(tmp_path: Path, host: str) -> None:
    """An active conda environment exports such a HOST; the message named PORT."""
    environ = {"DATABASE_URL": "postgresql://h/db", "CLERK_WEBHOOK_SIGNING_SECRET": SECRET}
    done = [run_here("serve", cwd=tmp_path, HOST=host, **environ)]
    if host == "host.invalid":  # one start of a process is enough to show that `dev` reads the same setting
        done.append(run_command("dev", cwd=tmp_path, HOST=host, **environ))
    for command in done:
        assert command.returncode == 2
        assert "  HOST: " in command.stderr
        assert "PORT" not in command.stderr


def test_each_address_of_a_name_is_bound() -> None:
    bound = bind_sockets("localhost", 0)
    assert {listener.family for listener in bound} <= {socket.AF_INET, socket.AF_INET6}
    assert bound
    for listener in bound:
        listener.close()


@pytest.mark.parametrize(("keep_alive", "is_open"), [("1s", False), ("75s", True)])
async def test_an_idle_connection_stays_open_for_the_setting(
    tmp_path: Path, database: str, keep_alive: str, *, is_open: bool
) -> None:
    """The server closed it after 5 s, while a load balancer still used it."""
    environ = {"DATABASE_URL": database, "CLERK_WEBHOOK_SIGNING_SECRET": SECRET, "SYNC_KEEP_ALIVE": keep_alive}
    with start_command("serve", cwd=tmp_path, **environ) as service:
        await asyncio.to_thread(service.wait_for, READY)
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b"}")
        try:
            closed = await asyncio.wait_for(reader.read(), 6) == b""
        except TimeoutError:
            closed = False
        assert closed is not is_open
        writer.close()
