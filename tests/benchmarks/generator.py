"""The load generator: prepared bytes on keep-alive connections, each with one request at a time.

It is a process of its own, with an order on standard input and a report on standard output. It parses only the status
and the end of a response. It is as fast as wrk (figures in load.py) and needs only Python.
"""

import gc
import itertools
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import msgspec

from sync_service.process import die_with_parent

# The service's limit for a response is 10 s.
RESPONSE_TIMEOUT = 15

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Order(msgspec.Struct):
    """Requests for one or more ports, which share the clients.

    With `repeat` the prepared requests are sent again; else the round ends after them. With a `rate`,
    paced_generator.py sends each request at its time.
    """

    ports: list[int]
    clients: int
    seconds: float
    repeat: bool
    requests: list[bytes]
    rate: float | None = None


class Report(msgspec.Struct):
    """The duration of each request, the length of the round, and the CPU share of the generator.

    `responses` has their number by port. `bad` is the first response that is not 2xx; it ends the round.
    """

    seconds: float
    busy: float
    milliseconds: list[float]
    responses: dict[int, int] = msgspec.field(default_factory=dict)
    bad: bytes | None = None


class Connection:
    """A keep-alive connection and the response that it receives."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.responses = 0
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent_at = 0.0
        self.got = b""


def drive(order: Order) -> Report:
    """Send the order's requests from a process of its own."""
    words = [sys.executable, "-m", "tests.benchmarks.paced_generator" if order.rate else "tests.benchmarks.generator"]
    content, timeout = msgspec.msgpack.encode(order), order.seconds + 120
    done = subprocess.run(words, input=content, stdout=subprocess.PIPE, check=True, timeout=timeout)
    report = msgspec.msgpack.decode(done.stdout, type=Report)
    assert report.bad is None, f"a response that is not 2xx: {report.bad!r}"
    return report


def _send_requests(order: Order) -> Report:
    ports = itertools.islice(itertools.cycle(order.ports), order.clients)
    lines = {line.socket.fileno(): line for line in map(Connection, ports)}
    poll = select.epoll()
    for number in lines:
        poll.register(number, select.EPOLLIN)
    queue: Iterator[bytes] = itertools.cycle(order.requests) if order.repeat else iter(order.requests)
    taken: list[float] = []
    now, used = time.perf_counter, time.process_time()
    began = now()
    deadline = began + order.seconds
    waiting = 0
    for line, request in zip(lines.values(), queue, strict=False):
        line.sent_at = now()
        line.socket.sendall(request)
        waiting += 1
    while waiting:
        ready = poll.poll(RESPONSE_TIMEOUT)
        assert ready, f"{waiting} requests have no response after {RESPONSE_TIMEOUT} s"
        for number, _ in ready:
            line = lines[number]
            if not (status := receive_status(line)):
                continue
            at = now()
            taken.append((at - line.sent_at) * 1000)
            line.responses += 1
            if status[:1] != b"2":
                return Report(at - began, 0, taken, bad=line.got)
            request_or_none = next(queue, None) if at < deadline else None
            if request_or_none is None:
                waiting -= 1
            else:
                line.sent_at = now()
                line.socket.sendall(request_or_none)
    ended = now()
    responses = dict.fromkeys(order.ports, 0)
    for line in lines.values():
        responses[line.port] += line.responses
    return Report(ended - began, (time.process_time() - used) / (ended - began), taken, responses)


def receive_status(line: Connection) -> bytes:
    """Receive bytes; return the status once the response is complete, else an empty value."""
    came = line.socket.recv(65536)
    assert came, f"the connection was closed after {line.got!r}"
    response = line.got + came if line.got else came
    line.got = response
    end = response.find(b"\r\n\r\n")
    if end < 0:
        return b""
    status = response[9:12]
    length = _LENGTH.search(response, 0, end)
    assert length or status == b"204", f"a response of unknown length: {response!r}"
    if len(response) < end + 4 + (int(length[1]) if length else 0):
        return b""
    if status[:1] == b"2":
        line.got = b""
    return status


def run(send: Callable[[Order], Report]) -> None:
    """Read the order, send the requests and write the report."""
    die_with_parent()
    order = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Order)
    gc.disable()  # a pause of the collector would be measured as the service's
    sys.stdout.buffer.write(msgspec.msgpack.encode(send(order)))


if __name__ == "__main__":
    run(_send_requests)
