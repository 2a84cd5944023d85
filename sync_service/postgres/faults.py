"""Whose fault a failure of the database is: translated here, at one place.

What the sender can help by trying again is `Unavailable`; all else is `Unappliable` and ours to repair.
https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from sync_service.errors import Unappliable, Unavailable

# Classes and codes that pass by themselves, or once the owner or a platform has put the server right.
_PASSING = re.compile(
    "08"  # connection exceptions
    "|28|3D"  # who may connect, and to what: the address is wrong, no event is
    "|40"  # serialization failures and deadlocks
    "|53"  # no more connections, memory or disk
    "|55P03"  # a lock not to be had in time
    "|57"  # shutting down, starting up, cancelled by a timeout
    "|58|F0|XX"  # the system below, or PostgreSQL itself
    "|25006"  # a standby that is not writable yet
    "|26000|42P05"  # prepared statements lost or doubled by a pooler
    "|3F000|42P01"  # no schema, no table: before `migrate`
)


@contextmanager
def translated() -> Iterator[None]:
    """Raise `Unavailable` or `Unappliable` for what asyncpg and the network raise."""
    try:
        yield
    except asyncpg.PostgresError as error:
        sqlstate = error.sqlstate or "XX000"
        kind = Unavailable if _PASSING.match(sqlstate) else Unappliable
        raise kind(
            _words(type(error).__name__),
            sqlstate=sqlstate,
            table=error.table_name,
            column=error.column_name,
            constraint=error.constraint_name,
        ) from error
    except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise Unavailable(_words(type(error).__name__)) from error


def _words(name: str) -> str:
    # `UniqueViolationError` is `unique_violation` in PostgreSQL's own list.
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.removesuffix("Error")).lower() or "error"
