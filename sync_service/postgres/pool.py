"""Connections. None is opened before its first use, so that the service starts while the database is unreachable."""

import asyncio
import contextlib
from types import TracebackType
from typing import Any

import asyncpg

from sync_service.dsn import Dsn
from sync_service.errors import DatabaseError, DatabaseUnavailable
from sync_service.postgres.errors import translate_error
from sync_service.postgres.hosts import Hosts

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy

# Seconds. A response is due within 10 s (Svix gives up after 15): 3 to connect, 4 for a statement, the rest to read the
# request and to respond.
CONNECT_TIMEOUT = 3
COMMAND_TIMEOUT = 4

# After an error a connection must be usable again within so many seconds, or it is silent.
RELEASE_TIMEOUT = 1.0

# The reason of an error on a connection that does not respond, although the server could have cancelled the statement.
CONNECTION_SILENT = "connection_silent"

# The reason of an error on a server that is read-only, such as a demoted one.
READ_ONLY = "read_only_sql_transaction"

# A platform kills a process that stops for longer than 10 s (Docker).
CLOSE_TIMEOUT = 10

# Webhooks share connections. More of them would queue inside PostgreSQL instead of in this process.
MAX_CONNECTIONS = 10


class Database:
    """A pool of connections whose errors are translated."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    def acquire(self) -> contextlib.AbstractAsyncContextManager[Connection]:
        """Return a context manager for a connection. It raises `DatabaseError` for any error of the database."""
        return _Acquisition(self._pool)

    @property
    def connections_in_use(self) -> int:
        """The number of connections that a request or a background task uses."""
        return self._pool.get_size() - self._pool.get_idle_size()

    async def can_write(self) -> bool:
        """Return whether the database commits a write now: the evidence after a `DoubtfulError`."""
        try:
            async with self.acquire() as connection:
                await connection.execute(_PROBE)
        except DatabaseError:
            return False
        return True

    async def expire_connections(self) -> None:
        """Replace each open connection at its next use."""
        await self._pool.expire_connections()

    async def aclose(self) -> None:
        """Close all connections; after `CLOSE_TIMEOUT`, abort them."""
        try:
            await asyncio.wait_for(self._pool.close(), CLOSE_TIMEOUT)
        except TimeoutError:
            self._pool.terminate()


# The message is a write without a row, so with synchronous replication its commit waits for the standby. Without it the
# commit would not wait, and events would be parked because the standby does not respond.
_PROBE = "delete from clerk_sync.fetches where false; select pg_logical_emit_message(true, 'sync-service', '')"


class _Acquisition:
    # A class instead of a generator: each webhook batch and each login enters one.
    __slots__ = ("_connection", "_pool")

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def __aenter__(self) -> Connection:
        try:
            self._connection: asyncpg.pool.PoolConnectionProxy = await self._pool.acquire()
        except Exception as error:  # asyncpg's errors have no common base; others pass unchanged
            if translated := translate_error(error, is_connecting=True):
                raise translated from error
            raise
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, asyncpg.ReadOnlySQLTransactionError) and await self._is_read_only():
            await self._pool.expire_connections()
            await self._release(error)
            raise DatabaseUnavailable(READ_ONLY, sqlstate=error.sqlstate or "") from error
        is_silent = await self._release(error)
        if is_silent and not isinstance(error, asyncio.CancelledError):
            raise DatabaseUnavailable(CONNECTION_SILENT) from error
        if translated := translate_error(error):
            raise translated from error

    async def _is_read_only(self) -> bool:
        # A trigger may raise 25006, too. Only a server that is read-only makes all its connections useless.
        try:
            return await is_read_only(self._connection)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            return False

    async def _release(self, error: BaseException | None) -> bool:
        """Release the connection; return whether it is silent. Then all others are suspect and are replaced, too."""
        try:
            await self._pool.release(self._connection, timeout=RELEASE_TIMEOUT if error else None)
        except TimeoutError:
            await self._pool.expire_connections()
            return True
        except Exception as other:  # as above
            if translated := translate_error(other):
                raise translated from other
            raise
        return False


async def is_read_only(connection: Connection) -> bool:
    """Return whether transactions of this connection are read-only: on a standby, or by a setting of the server."""
    return bool(await connection.fetchval("select current_setting('transaction_read_only')::boolean"))


async def open_database(dsn: Dsn) -> Database:
    """Return a database without open connections; it connects, and reconnects, on demand."""
    return Database(
        await asyncpg.create_pool(
            dsn.url,
            min_size=0,
            max_size=MAX_CONNECTIONS,
            timeout=CONNECT_TIMEOUT,
            command_timeout=COMMAND_TIMEOUT,
            connection_class=_PooledConnection,
            connect=_Connector(Hosts(dsn.url), behind_pooler=True if dsn.is_transaction_pooler else None),
            # No setting of a session is ever changed, so there is no reset: one round trip less for each use.
            reset=_skip_reset,
        )
    )


async def connect(dsn: Dsn) -> asyncpg.Connection:
    """Return one connection without a pool, for a command. Raises the errors of asyncpg."""
    return await Hosts(dsn.url).connect(timeout=10, statement_cache_size=0)


# PostgreSQL searches pg_catalog first, unless search_path names it after a schema of the app. An operator or a function
# there would then replace PostgreSQL's own in every statement of the service.
_CATALOGUE_FIRST = """
select pg_catalog.set_config(
    'search_path', pg_catalog.concat('pg_catalog, ', pg_catalog.current_setting('search_path')), false
)
where pg_catalog.array_position(pg_catalog.current_schemas(true), 'pg_catalog'::pg_catalog.name)
    operator(pg_catalog.>) 1
"""


class _PooledConnection(asyncpg.Connection):
    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109  asyncpg's own signature
        # The pool replaces an expired connection without a timeout. A silent one would stay open for ever.
        with contextlib.suppress(TimeoutError):
            await super().close(timeout=timeout or RELEASE_TIMEOUT)


class _Connector:
    """Connects with a cache of prepared statements, but without one behind a transaction pooler.

    Behind a pooler the next transaction may use another server connection, which lacks the prepared statements. A
    pooler is recognised by its greeting: the process ID there is invented and differs from the server's.
    """

    def __init__(self, hosts: Hosts, *, behind_pooler: bool | None) -> None:
        self._hosts = hosts
        self._behind_pooler = behind_pooler

    async def __call__(self, *_: Any, **options: Any) -> asyncpg.Connection:
        if self._behind_pooler is None:
            probe = await self._hosts.connect(**options, statement_cache_size=0)
            try:
                self._behind_pooler = await probe.fetchval("select pg_backend_pid()") != probe.get_server_pid()
            finally:
                if self._behind_pooler is not True:
                    probe.terminate()
            if self._behind_pooler:
                return probe
        size = 0 if self._behind_pooler else 1024
        connection = await self._hosts.connect(**options, statement_cache_size=size)
        if not self._behind_pooler:  # a pooler gives the session, and so the setting, to other clients
            try:
                await connection.execute(_CATALOGUE_FIRST)
            except BaseException:  # a cancelled request, too
                connection.terminate()
                raise
        return connection


async def _skip_reset(_: object) -> None:
    pass
