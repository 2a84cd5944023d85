"""The load generator at a constant rate: each request has a time at which it is sent, on a free connection.

The duration of a request begins at its time. So a service that pauses is charged with the requests that had to wait
for a connection, too.
"""

import select
import time
from collections import deque

from tests.benchmarks.generator import RESPONSE_TIMEOUT, Connection, Order, Report, receive_status, run


def _send_at_rate(order: Order) -> Report:
    assert order.rate
    # All connections take turns: the service closes one that stays idle.
    idle = deque(Connection(order.ports[n % len(order.ports)]) for n in range(order.clients))
    busy: dict[int, Connection] = {}
    taken: list[float] = []
    began, used = time.perf_counter(), time.process_time()
    for number, request in enumerate(order.requests):
        due = began + number / order.rate
        while (wait := due - time.perf_counter()) > 0 or not idle:
            idle += _receive(busy, wait if idle else RESPONSE_TIMEOUT, taken)
            assert idle, f"{len(busy)} requests have no response after {RESPONSE_TIMEOUT} s"
        line = idle.popleft()
        line.sent_at = due
        line.socket.sendall(request)
        busy[line.socket.fileno()] = line
    while busy:
        assert _receive(busy, RESPONSE_TIMEOUT, taken), f"{len(busy)} requests have no response"
    seconds = time.perf_counter() - began
    return Report(seconds, (time.process_time() - used) / seconds, taken)


def _receive(busy: dict[int, Connection], timeout: float, taken: list[float]) -> list[Connection]:
    """Wait for responses; return the connections that are free again. `select` has no limit of whole milliseconds."""
    free = []
    for number in select.select(busy, [], [], timeout)[0]:
        line = busy[number]
        if not (status := receive_status(line)):
            continue
        assert status[:1] == b"2", f"a response that is not 2xx: {line.got!r}"
        taken.append((time.perf_counter() - line.sent_at) * 1000)
        free.append(busy.pop(number))
    return free


if __name__ == "__main__":
    run(_send_at_rate)
