"""Logging: one line per event on standard error, as JSON or for a console. No line contains user data or secrets.

An exception is logged as its class and its stack. Its message is left out: PostgreSQL's messages quote rows
("Key (email)=(…) already exists"), and Python's quote arguments.

Logging never fails its caller. A line that cannot be rendered or written is lost and counted.
"""

import contextlib
import logging
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, TextIO, cast

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from sync_service.log_file import LogFile, lost_lines
from sync_service.terminal import escape_value

# The fields of all lines of one request. structlog has a variable for each field, and searches all variables of the
# context for them, for each request and each line.
_context: ContextVar[Mapping[str, object]] = ContextVar("log_context", default=MappingProxyType({}))


def set_context(fields: Mapping[str, object]) -> None:
    """Add these fields, and no others, to each later line of this task and of those that it starts."""
    _context.set(fields)


@contextlib.contextmanager
def bind_context(**fields: object) -> Iterator[None]:
    """Add further fields to the lines within the block."""
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def configure_logging(*, level: str = "info", form: str | None = None, stream: TextIO | None = None) -> None:
    """Send the log lines of structlog and of all libraries to `stream`.

    `form` is json or console. With None, a terminal gets console and any other stream gets JSON.
    """
    file = LogFile(stream or sys.stderr)
    console = form == "console" or (form is None and file.isatty())
    shared: list[Processor] = [
        add_context,
        structlog.processors.add_log_level,
        add_timestamp,
        format_exception,
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=file.isatty())
        if console
        else structlog.processors.JSONRenderer(
            serializer=lambda line, **_: msgspec.json.encode(line, enc_hook=str).decode()
        )
    )
    if console:
        shared.append(escape_line)
    structlog.configure(
        processors=[_guard([*shared, renderer])],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", file)),
        cache_logger_on_first_use=False,
    )
    handler = _Handler(file)
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


class _Handler(logging.StreamHandler[LogFile]):
    """Handler of the standard library's loggers."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  the library's name
        """Count the line. The library would print it with its arguments, which may contain personal data."""
        lost_lines.add()


def _guard(processors: list[Processor]) -> Processor:
    """Return the processors as one. A line that cannot be rendered is lost, and its caller is not disturbed."""

    def process(logger: WrappedLogger, name: str, line: EventDict) -> Any:
        result: Any = line
        try:
            for processor in processors:
                result = processor(logger, name, result)
        except Exception:  # noqa: BLE001  no error of a log line may reach a request
            lost_lines.add()
            raise structlog.DropEvent from None
        return result

    return process


def add_context(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Add the fields of the context. A field of the line itself remains."""
    return {**_context.get(), **line}


def add_timestamp(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Add the time as an object, which the renderer formats: structlog's TimeStamper takes three times as long."""
    line["timestamp"] = datetime.now(UTC)
    return line


def format_exception(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Replace `exc_info` by the exception's class and its stack, innermost frame last."""
    if "exc_info" not in line:
        return line
    exc_info = line.pop("exc_info")
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


def escape_line(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Escape control characters of texts; JSON does so itself."""
    return {name: escape_value(value) if isinstance(value, str) else value for name, value in line.items()}


def keep_first_line(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Keep only the first line of a library's message: asyncio quotes the exception on the second line."""
    line["event"] = str(line["event"]).partition("\n")[0]
    return line
