"""Connects to the server that accepts writes, among several hosts.

asyncpg tries the hosts one after the other within one timeout. A host that drops packets would use up all of it, and no
other host would ever be tried.
"""

import asyncio
from typing import Any

import asyncpg

from sync_service.dsn_check import Address, list_addresses

# Seconds. A host that is tried after a slow one still gets this much.
MIN_SHARE = 0.2

# No connection, a server that starts or stops, a standby. As in libpq, a refused login ends the search.
NEXT_HOST_ERRORS = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.TargetServerAttributeNotMatched,
)


class Hosts:
    """The addresses of one URL. The one that last accepted a connection is tried first."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._addresses = list_addresses(url)

    async def connect(self, *, timeout: float, **options: Any) -> asyncpg.Connection:  # noqa: ASYNC109  asyncpg's own
        """Return a connection; each host gets an equal share of the time that is left. Raises the errors of asyncpg."""
        if len(self._addresses) == 1:
            only: asyncpg.Connection = await asyncpg.connect(self._url, timeout=timeout, **options)
            return only
        clock = asyncio.get_running_loop().time
        deadline, addresses = clock() + timeout, self._addresses
        errors: list[Exception] = []
        for number, address in enumerate(addresses):
            share = max((deadline - clock()) / (len(addresses) - number), MIN_SHARE)
            try:
                connection: asyncpg.Connection = await asyncpg.connect(
                    self._url, **address._asdict(), timeout=share, **options
                )
            except NEXT_HOST_ERRORS as error:
                errors.append(error)
            else:
                self._prefer(address)
                return connection
        # A standby that responds explains more than a host that does not.
        raise next((error for error in errors if not isinstance(error, OSError)), errors[-1])

    def _prefer(self, address: Address) -> None:
        self._addresses = [address, *(other for other in self._addresses if other != address)]
