"""One line an event, JSON or for eyes, on standard error. No line says who: no person, no secret, no value.

An exception is told by its class and the places it came through. Its message is left out, for PostgreSQL's messages
quote rows ("Key (email)=(…) already exists") and Python's quote arguments.
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
    """Send structlog's lines and those of every library to `stream`. `form` is json, console, or None to look."""
    stream = stream or sys.stderr
    console = form == "console" or (form is None and stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        stamped,
        told_without_messages,
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
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared, first_line_only],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Every request of ours to Clerk would be a line with its address, which holds a user's ID.
    for name in ("httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)


def stamped(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Add the time, to be written by the renderer: structlog's own stamper writes it three times as slowly."""
    line["timestamp"] = datetime.now(UTC)
    return line


def told_without_messages(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Replace `exc_info` by the exception's class and the places it came through, the innermost last."""
    told = line.pop("exc_info", None)
    if told is True:
        told = sys.exc_info()
    error = told[1] if isinstance(told, tuple) else told
    if isinstance(error, BaseException):
        line["exception"] = type(error).__qualname__
        line["at"] = [
            f"{frame.filename.rpartition('site-packages/')[2]}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)
        ]
    return line


def first_line_only(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Cut what a library says to its first line: asyncio quotes the exception itself on the second."""
    line["event"] = str(line["event"]).partition("\n")[0]
    return line
