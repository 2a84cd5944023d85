"""Translation of errors from asyncpg and the network, in one place.

`DatabaseUnavailable` helps the sender: the same request succeeds later. `ChangeRejected` needs a repair on this side.
https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from sync_service.errors import ChangeRejected, DatabaseError, DatabaseUnavailable

# Classes and codes that end by themselves, or once the owner or the platform has repaired the server.
_TEMPORARY_SQLSTATES = re.compile(
    "08"  # connection exceptions
    "|28|3D"  # authentication or database name: the URL is wrong, no event is
    "|40"  # serialization failures and deadlocks
    "|53"  # too many connections, out of memory, disk full
    "|55P03"  # lock timeout
    "|57"  # shutdown, start-up, cancelled by a timeout
    "|58|F0|XX"  # errors of the operating system or of PostgreSQL itself
    "|25006"  # a standby that is not writable yet
    "|26000|42P05"  # prepared statements lost or duplicated by a pooler
    "|3F000|42P01"  # schema or table missing: `migrate` has not run
)


def translate_error(error: BaseException | None) -> DatabaseError | None:
    """Return the error as this service names it, or None for an error from elsewhere."""
    match error:
        case asyncpg.PostgresError():
            sqlstate = error.sqlstate or "XX000"
            kind = DatabaseUnavailable if _TEMPORARY_SQLSTATES.match(sqlstate) else ChangeRejected
            return kind(
                _name_condition(error),
                sqlstate=sqlstate,
                table=error.table_name,
                column=error.column_name,
                constraint=error.constraint_name,
            )
        case OSError() | TimeoutError() | asyncpg.InterfaceError() | asyncpg.InternalClientError():
            return DatabaseUnavailable(_name_condition(error))
        case _:
            return None


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise `DatabaseError` for errors of asyncpg and the network; let other errors through."""
    try:
        yield
    except Exception as error:
        if translated := translate_error(error):
            raise translated from error
        raise


def _name_condition(error: BaseException) -> str:
    # `UniqueViolationError` is `unique_violation` in PostgreSQL's list of condition names.
    name = type(error).__name__.removesuffix("Error")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() or "error"
