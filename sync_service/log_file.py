"""The file of the log lines: it never fails its caller, and never blocks it for long. Lost lines are counted."""

import os
import select
import threading
from collections.abc import Callable
from typing import TextIO

# A full pipe blocks the writer, and with it all requests. A reader that falls behind gets this time once.
WRITE_TIMEOUT_MS = 100


class LostLines:
    """Counts the log lines that are lost. They are kept until a metric takes them."""

    def __init__(self) -> None:
        self._kept = 0
        self._increment: Callable[[int], None] | None = None

    def add(self) -> None:
        """Count one lost line."""
        if self._increment:
            self._increment(1)
        else:
            self._kept += 1

    def report_to(self, increment: Callable[[int], None]) -> None:
        """Pass the number of lines lost until now to `increment`, and 1 for each later one."""
        increment(self._kept)
        self._kept, self._increment = 0, increment


lost_lines = LostLines()


class LogFile:
    """Writes each line at once and without a buffer, so that a lost line cannot block the later ones.

    It writes to the file descriptor: a stream keeps text that it could not write, and fails again at exit.
    """

    def __init__(self, stream: TextIO) -> None:
        self.isatty = stream.isatty
        self._timeout = WRITE_TIMEOUT_MS
        self._torn = False  # the last line in the file lacks its end
        self._lock = threading.Lock()  # a poll object refuses two threads at once
        self._descriptor = stream.fileno()
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)

    def write(self, text: str) -> None:
        """Write one line, or count it as lost."""
        with self._lock:
            self._write(text.encode("utf-8", "backslashreplace"))

    def _write(self, line: bytes) -> None:
        if self._torn:
            line = b"\n" + line
        try:
            # Without a timeout while the reader stays behind, so that it delays one request and not each of them.
            written = os.write(self._descriptor, line) if self._poll.poll(self._timeout) else 0
        except OSError:
            written = 0
        self._timeout = WRITE_TIMEOUT_MS if written else 0
        if written < len(line):
            self._torn = self._torn or written > 0
            lost_lines.add()
        else:
            self._torn = False

    def flush(self) -> None:
        """Do not wait: each line is written already."""
