"""One client's webhooks, durable (fsync on): the service beside a bare route and the usual handler.

The client is a blocking socket that sends prepared bytes, so its own cost is minimal. The three targets take turns in
every round, because the load of the machine varies.
"""

import re
import socket
import statistics
import time

from tests.benchmarks.bodies import make_body, make_request
from tests.benchmarks.targets import run_targets

ROUNDS = 5
REQUESTS = 400


def measure() -> None:
    """Print p50 and p99 of each target, and the ratio to the usual handler."""
    with run_targets() as found:
        times: dict[str, list[float]] = {target.name: [] for target in found}
        for number in range(ROUNDS + 1):
            for target in found:
                taken = _run_round(target.port, target.path, number)
                if number:  # the first round is a warm-up
                    times[target.name] += taken
    usual = statistics.median(times[found.usual.name])
    for name, taken in times.items():
        p50, p99 = statistics.median(taken), statistics.quantiles(taken, n=100)[98]
        print(f"  {name:21} p50 {p50:5.2f} ms   p99 {p99:5.2f} ms   {p50 / usual:4.2f} of the usual handler")


def _run_round(port: int, path: str, number: int) -> list[float]:
    """Return the milliseconds of each request: half of them new users, half updates."""
    now = time.time_ns() // 1_000_000
    prepared = [
        make_request(path, f"msg_{path}_{number}_{n}", make_body("user.updated", f"user_{number}_{n // 2}", now + n))
        for n in range(REQUESTS)
    ]
    taken = []
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for sent in prepared:
            began = time.perf_counter()
            line.sendall(sent)
            status = read_status(line)
            taken.append((time.perf_counter() - began) * 1000)
            assert status.startswith(b"2"), (path, status)
    return taken


def read_status(line: socket.socket) -> bytes:
    """Read one response to its end, possibly in several parts; return its status."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += line.recv(4096)
    head, _, body = got.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    while length and len(body) < int(length[1]):
        body += line.recv(4096)
    return head[9:12]
