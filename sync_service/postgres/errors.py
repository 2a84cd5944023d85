"""Translation of errors from asyncpg and the network, in one place.

`DatabaseUnavailable` helps the sender: the same request succeeds later. `ChangeRejected` needs a repair on this side.
The code of a failed statement does not prove the first, because a trigger or a foreign table of the app may raise any
code: such an error is a `DoubtfulError`, and the caller needs other evidence.
https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from sync_service.errors import ChangeRejected, DatabaseError, DatabaseUnavailable, DoubtfulError

# Classes and codes that end by themselves, or once the owner or the platform has repaired the server.
_TEMPORARY_SQLSTATES = re.compile(
    "08"  # connection exceptions
    "|28|3D"  # authentication or database name: the URL is wrong, no event is
    "|40"  # serialization failures and deadlocks
    "|53"  # too many connections, out of memory, disk full
    "|55P03"  # lock timeout
    "|57|25P0[34]"  # shutdown, start-up, cancelled by a timeout of the statement, the transaction or the session
    "|58|F0|XX"  # errors of the operating system or of PostgreSQL itself
    "|25006"  # a standby that is not writable yet
    "|26000|42P05"  # prepared statements lost or duplicated by a pooler
    "|3F000|42P01"  # schema or table missing: `migrate` has not run
)

# The function of PL/pgSQL in an error's context, in any language of the server: `PL/pgSQL function announce() line 2`.
_PLPGSQL_FUNCTION = re.compile(r"PL/pgSQL(?:\W\w+)?\s(\S+?)\(")

# PostgreSQL's own function that ends a statement after its lock timeout. NOWAIT and RAISE have the same code.
_LOCK_TIMEOUT_SOURCE = "ProcessInterrupts"

# PostgreSQL's own function behind RAISE.
_RAISE_SOURCE = "exec_stmt_raise"


def translate_error(error: BaseException | None, *, is_connecting: bool = False) -> DatabaseError | None:
    """Return the error as this service names it, or None for an error from elsewhere.

    An error while connecting comes from no statement, so it proves that the database is unavailable.
    """
    match error:
        case asyncpg.PostgresError():
            return _translate_server_error(error, is_connecting=is_connecting)
        case asyncpg.InterfaceError() if isinstance(error, ValueError):  # asyncpg cannot encode a parameter
            return ChangeRejected("data_exception", sqlstate="22000")
        case OSError() | TimeoutError() | asyncpg.InterfaceError() | asyncpg.InternalClientError():
            return DatabaseUnavailable(_name_condition(error))
        case _:
            return None


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise `DatabaseError` for errors of asyncpg and the network; let other errors through."""
    try:
        yield
    except Exception as error:  # asyncpg's errors have no common base; others pass unchanged
        if translated := translate_error(error):
            raise translated from error
        raise


def _translate_server_error(error: asyncpg.PostgresError, *, is_connecting: bool) -> DatabaseError:
    sqlstate = error.sqlstate or "XX000"
    functions = _PLPGSQL_FUNCTION.findall(error.context or "")
    return _select_class(error, sqlstate, is_connecting=is_connecting)(
        _name_condition(error),
        sqlstate=sqlstate,
        table=error.table_name,
        column=error.column_name,
        constraint=error.constraint_name,
        function=functions[-1] if functions else None,  # the outermost one belongs to the trigger
    )


def _select_class(error: asyncpg.PostgresError, sqlstate: str, *, is_connecting: bool) -> type[DatabaseError]:
    if is_connecting:
        return DatabaseUnavailable
    if isinstance(error, asyncpg.LockNotAvailableError) and error.server_source_function != _LOCK_TIMEOUT_SOURCE:
        return ChangeRejected
    return DoubtfulError if _TEMPORARY_SQLSTATES.match(sqlstate) else ChangeRejected


def is_raised_by_function(error: asyncpg.PostgresError) -> bool:
    """Return whether a RAISE of PL/pgSQL chose the code of the error, so that the code says nothing of the server."""
    return error.server_source_function == _RAISE_SOURCE


def _name_condition(error: BaseException) -> str:
    # `UniqueViolationError` is `unique_violation` in PostgreSQL's list of condition names.
    # An acronym is a word: `ReadOnlySQLTransactionError` is `read_only_sql_transaction`.
    name = type(error).__name__.removesuffix("Error")
    condition = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower() or "error"
    # From version 18, PostgreSQL has a code of its own for RESTRICT. The reason must not depend on the version.
    return "foreign_key_violation" if condition == "restrict_violation" else condition
