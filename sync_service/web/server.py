"""uvicorn, set up: one process, several, or one that reloads; and how it ended."""

import os
import signal
import tempfile
from types import FrameType

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.statreload import StatReload

import sync_service
from sync_service.settings import Settings
from sync_service.web.app import STOP_SECONDS
from sync_service.web.metrics import SHARED
from sync_service.web.whole import WholeAnswers

INTERRUPTED = 130


def serve(settings: Settings, *, host: str, reload: bool = False) -> int:
    """Serve until told to stop, and return the exit status: 130 after Ctrl-C, 0 after SIGTERM, 3 if it did not start.

    The app is named, not passed, for each process makes its own from the environment.
    """
    config = uvicorn.Config(
        "sync_service.web.app:app_of_environment",
        factory=True,
        host=host,
        port=settings.port,
        workers=settings.web_concurrency,
        reload=reload,
        reload_dirs=list(sync_service.__path__) if reload else None,
        loop="uvloop" if os.name == "posix" else "asyncio",
        http=WholeAnswers,
        ws="none",
        lifespan="on",
        # The log is ours, and so are its lines about requests.
        log_config=None,
        access_log=False,
        server_header=False,
        # Neither the caller's address nor the scheme is looked at.
        proxy_headers=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    if reload:
        reloader = _Reloader(config, uvicorn.Server(config).run, [config.bind_socket()])
        reloader.run()
        return INTERRUPTED if reloader.told == signal.SIGINT else 0
    if settings.web_concurrency > 1:
        with tempfile.TemporaryDirectory(prefix="sync-metrics-") as counters:
            os.environ[SHARED] = counters
            workers = _Workers(config, [config.bind_socket()])
            workers.run()
        if any(process.exitcode == STARTUP_FAILURE for process in workers.processes):
            return STARTUP_FAILURE
        return INTERRUPTED if workers.interrupted else 0
    return _serve_alone(config)


def _serve_alone(config: uvicorn.Config) -> int:
    # After its shutdown uvicorn raises the signals that it got once more; by default they would kill this process.
    told: list[int] = []
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda number, _: told.append(number))
    server = uvicorn.Server(config)
    server.run()
    if not server.started:
        return STARTUP_FAILURE
    return INTERRUPTED if signal.SIGINT in told else 0


class _Reloader(StatReload):
    told = 0

    def signal_handler(self, sig: int, frame: FrameType | None) -> None:
        self.told = sig
        super().signal_handler(sig, frame)


class _Workers(Multiprocess):
    interrupted = False

    def handle_int(self) -> None:
        self.interrupted = True
        super().handle_int()
