"""The load: prepared bytes sent on keep-alive connections, each of which waits for its answer before the next.

A process of its own, an order on standard input, a report on standard output. Only the status and the end of an answer
are looked for. It keeps up with wrk (the figures are in load.py), and needs nothing but Python.
"""

import gc
import itertools
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import msgspec

from sync_service.process import die_with_parent

# The service answers within 10 s, whatever happens.
SILENCE_SECONDS = 15

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Order(msgspec.Struct):
    """Requests for one port. `repeat` starts over where the prepared ones are used up; else that is the end."""

    port: int
    clients: int
    seconds: float
    repeat: bool
    requests: list[bytes]


class Report(msgspec.Struct):
    """How many were sent and answered, how long each took, and how busy the generator was itself.

    `bad` is the first answer that is not 2xx; it ends the round.
    """

    seconds: float
    busy: float
    milliseconds: list[float]
    bad: bytes | None = None


class _Line:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent_at = 0.0
        self.got = b""


def drive(order: Order) -> Report:
    """Send what is ordered, from a process of its own."""
    words = [sys.executable, "-m", "tests.benchmarks.generator"]
    done = subprocess.run(words, input=msgspec.msgpack.encode(order), stdout=subprocess.PIPE, check=True, timeout=120)
    report = msgspec.msgpack.decode(done.stdout, type=Report)
    assert report.bad is None, f"an answer that is not 2xx: {report.bad!r}"
    return report


def _send(order: Order) -> Report:
    lines = {line.socket.fileno(): line for line in (_Line(order.port) for _ in range(order.clients))}
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
        ready = poll.poll(SILENCE_SECONDS)
        assert ready, f"{waiting} requests have no answer after {SILENCE_SECONDS} s"
        for number, _ in ready:
            line = lines[number]
            if not (status := _status(line)):
                continue
            at = now()
            taken.append((at - line.sent_at) * 1000)
            if status[:1] != b"2":
                return Report(at - began, 0, taken, bad=line.got)
            request_or_none = next(queue, None) if at < deadline else None
            if request_or_none is None:
                waiting -= 1
            else:
                line.sent_at = now()
                line.socket.sendall(request_or_none)
    ended = now()
    return Report(ended - began, (time.process_time() - used) / (ended - began), taken)


def _status(line: _Line) -> bytes:
    """Take what has come; return the status once the answer is whole, else nothing."""
    came = line.socket.recv(65536)
    assert came, f"the connection was closed after {line.got!r}"
    answer = line.got + came if line.got else came
    line.got = answer
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return b""
    status = answer[9:12]
    length = _LENGTH.search(answer, 0, end)
    assert length or status == b"204", f"an answer whose end is not known: {answer!r}"
    if len(answer) < end + 4 + (int(length[1]) if length else 0):
        return b""
    if status[:1] == b"2":
        line.got = b""
    return status


def main() -> None:
    """Read the order, send, report."""
    die_with_parent()
    order = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Order)
    gc.disable()  # a hundred thousand numbers are no garbage, and a pause would be taken for the service's
    sys.stdout.buffer.write(msgspec.msgpack.encode(_send(order)))


if __name__ == "__main__":
    main()
