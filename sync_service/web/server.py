"""uvicorn's configuration: one process, several, or one that reloads; and its exit status."""

import contextlib
import os
import signal
import socket
from types import FrameType

import uvicorn
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.statreload import StatReload

import sync_service
from sync_service.settings import Settings
from sync_service.web.app import STOP_TIMEOUT
from sync_service.web.connections import raise_descriptor_limit
from sync_service.web.metrics.shared_folder import create_shared_folder
from sync_service.web.protocol import LimitedProtocol

FAILED = 1
INTERRUPTED = 130


def serve(settings: Settings, *, sockets: list[socket.socket], reload: bool = False) -> int:
    """Serve on bound sockets until a signal stops the service; return the exit status.

    The status is 130 after Ctrl-C, 0 after SIGTERM, 1 if the service did not start. uvicorn gets the app's name, not
    the app, because each process creates its own from the environment.
    """
    raise_descriptor_limit()
    config = uvicorn.Config(
        "sync_service.web.app:create_app_from_environment",
        factory=True,
        workers=settings.web_concurrency,
        reload=reload,
        reload_dirs=list(sync_service.__path__) if reload else None,
        loop="uvloop" if os.name == "posix" else "asyncio",
        http=LimitedProtocol,
        ws="none",
        lifespan="on",
        # structlog is configured already, and RequestLogMiddleware logs the requests.
        log_config=None,
        access_log=False,
        server_header=False,
        # The service uses neither the client's IP address nor the URL's scheme.
        proxy_headers=False,
        timeout_keep_alive=int(settings.sync_keep_alive.total_seconds()),
        timeout_graceful_shutdown=STOP_TIMEOUT,
    )
    if reload:
        reloader = _Reloader(config, uvicorn.Server(config).run, sockets)
        reloader.run()
        return INTERRUPTED if reloader.last_signal == signal.SIGINT else 0
    if settings.web_concurrency > 1:
        with create_shared_folder():
            workers = _Workers(config, sockets)
            workers.run()
        if any(process.exitcode == STARTUP_FAILURE for process in workers.processes):
            return FAILED
        return INTERRUPTED if workers.interrupted else 0
    return _serve_single_process(config, sockets)


def _serve_single_process(config: uvicorn.Config, sockets: list[socket.socket]) -> int:
    # After its shutdown uvicorn raises the received signals again; the default handlers would kill this process.
    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: received.append(number))
    server = uvicorn.Server(config)
    with contextlib.suppress(SystemExit):  # uvicorn's own exit status for a failed start is 3
        server.run(sockets)
    if not server.started:
        return FAILED
    return INTERRUPTED if signal.SIGINT in received else 0


class _Reloader(StatReload):
    last_signal = 0

    def signal_handler(self, sig: int, frame: FrameType | None) -> None:
        self.last_signal = sig
        super().signal_handler(sig, frame)


class _Workers(Multiprocess):
    interrupted = False
    _pids: frozenset[int | None] = frozenset()

    def keep_subprocess_alive(self) -> None:
        """Replace workers that have ended, and remove their gauges."""
        super().keep_subprocess_alive()
        before, self._pids = self._pids, frozenset(process.pid for process in self.processes)
        for pid in before - self._pids:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]  # the library has no types here

    def handle_int(self) -> None:
        self.interrupted = True
        super().handle_int()
