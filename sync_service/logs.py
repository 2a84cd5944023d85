"""Logging: one line per event on standard error, as JSON or for a console. No line contains user data or secrets.

An exception is logged as its class and its stack. Its message is left out: PostgreSQL's messages quote rows
("Key (email)=(…) already exists"), and Python's quote arguments.
"""

import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger


def configure_logging(*, level: str = "info", form: str | None = None, stream: TextIO | None = None) -> None:
    """Send the log lines of structlog and of all libraries to `stream`.

    `form` is json or console. With None, a terminal gets console and any other stream gets JSON.
    """
    stream = stream or sys.stderr
    console = form == "console" or (form is None and stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        add_timestamp,
        format_exception,
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty())
        if console
        else structlog.processors.JSONRenderer(
            serializer=lambda line, **_: msgspec.json.encode(line, enc_hook=str).decode()
        )
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared, keep_first_line],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # These libraries log the URL of each request, and a URL of Clerk's API contains a user's ID.
    for name in ("httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)


def add_timestamp(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Add the time as an object, which the renderer formats: structlog's TimeStamper takes three times as long."""
    line["timestamp"] = datetime.now(UTC)
    return line


def format_exception(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Replace `exc_info` by the exception's class and its stack, innermost frame last."""
    exc_info = line.pop("exc_info", None)
    if exc_info is True:
        exc_info = sys.exc_info()
    error = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    if isinstance(error, BaseException):
        line["exception"] = type(error).__qualname__
        line["at"] = [
            f"{frame.filename.rpartition('site-packages/')[2]}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)
        ]
    return line


def keep_first_line(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Keep only the first line of a library's message: asyncio quotes the exception on the second line."""
    line["event"] = str(line["event"]).partition("\n")[0]
    return line
