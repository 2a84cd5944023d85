"""Checks a DSN with the parser of asyncpg, which also reads the certificate files."""

import os
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


def _is_accepted(url: str) -> bool:
    """Return whether asyncpg accepts the URL. Its own parser is called, without a connection."""
    try:
        connect_utils._parse_connect_dsn_and_args(dsn=url, **_UNSET)  # type: ignore[attr-defined]  # noqa: SLF001
    except (asyncpg.ClientConfigurationError, asyncpg.InternalClientError, OSError, ValueError):
        return False
    return True
