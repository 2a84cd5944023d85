"""Ends `dev` when the reader of its output has gone, as in `sync-service dev | head`."""

import os
import select
import signal
import stat
import sys
import threading


def stop_when_output_closes() -> None:
    """Send SIGTERM to this process as soon as its standard output or error is a pipe without a reader."""
    pipes = [stream.fileno() for stream in (sys.stdout, sys.stderr) if stream and _is_pipe(stream.fileno())]
    if pipes:
        threading.Thread(target=_watch, args=(pipes,), daemon=True).start()


def _is_pipe(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _watch(pipes: list[int]) -> None:
    poll = select.poll()
    for pipe in pipes:
        poll.register(pipe, 0)  # POLLERR and POLLHUP, which report the end of the reader, need no registration
    poll.poll()
    os.kill(os.getpid(), signal.SIGTERM)
