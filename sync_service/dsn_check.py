"""Checks a DSN with the parser of asyncpg, which also reads the certificate files."""

import os
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

import asyncpg
from asyncpg import connect_utils

from sync_service.dsn import Dsn

FILE_PARAMETERS = frozenset({"sslcert", "sslkey", "sslrootcert", "sslcrl"})

_HINTS = {"sslmode": "; verify-ca and verify-full need sslrootcert, the file of the root certificate"}

# All arguments of asyncpg's parser beside the URL.
_ARGUMENTS = """
    host port user password passfile database ssl service servicefile direct_tls server_settings target_session_attrs
    krbsrvname gsslib
"""
_UNSET = dict.fromkeys(_ARGUMENTS.split())


class Address(NamedTuple):
    """The address of a server: the name of its host, or the path of its socket, which contains the port."""

    host: str
    port: int = 5432


def check_dsn(dsn: Dsn) -> None:
    """Raise `ValueError`, which names the faulty key of the URL, unless asyncpg accepts it and its files exist."""
    if _is_accepted(dsn.url):
        return
    address, _, query = dsn.url.partition("?")
    given = parse_qsl(query)
    for key, value in given:
        if key in FILE_PARAMETERS and not os.access(value, os.R_OK):
            raise ValueError(f"{key} in the URL names a file that cannot be read")
    for key, _ in given:
        rest = urlencode([(other, value) for other, value in given if other != key])
        if _is_accepted(f"{address}?{rest}" if rest else address):
            raise ValueError(f"{key} in the URL has a wrong value{_HINTS.get(key, '')}")
    raise ValueError("is not usable: host, port or several keys of the URL have wrong values")


def list_addresses(url: str) -> list[Address]:
    """Return the addresses of the servers of a URL, also those of the environment. Raises the errors of asyncpg.

    asyncpg's own parser is called, without a connection.
    """
    addresses, _ = connect_utils._parse_connect_dsn_and_args(  # type: ignore[attr-defined]  # noqa: SLF001
        dsn=url, **_UNSET
    )
    return [Address(found) if isinstance(found, str) else Address(*found) for found in addresses]


def _is_accepted(url: str) -> bool:
    try:
        list_addresses(url)
    except (asyncpg.ClientConfigurationError, asyncpg.InternalClientError, OSError, ValueError, IndexError):
        return False
    return True
