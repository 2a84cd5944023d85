"""The listening sockets of `HOST` and `PORT`, bound before anything else starts."""

import errno
import socket
from typing import Any

from sync_service.errors import SettingsError, SyncError

# IPv4 and IPv6 by one socket. uvicorn would accept only IPv6 in one process, and both in several.
EVERY_ADDRESS = "::"


def bind_sockets(host: str, port: int) -> list[socket.socket]:
    """Return a bound socket for each address of the host; uvicorn listens on them.

    Raises `SettingsError` if the host is not an address of this machine, `SyncError` if the port is not available.
    """
    sockets = []
    for family, address in _resolve(host, port):
        try:
            sockets.append(_bind(family, address, dual_stack=host == EVERY_ADDRESS))
        except OSError as error:
            # `localhost` is often an IPv6 address too, even on a machine without IPv6.
            if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                raise SyncError(
                    f"Cannot listen on port {port} of {host}: {error.strerror}. Set PORT to another."
                ) from error
    if not sockets:
        raise _not_an_address()
    return sockets


def _resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, Any]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise _not_an_address() from None
    return [(family, address) for family, _, _, _, address in found]


def _bind(family: socket.AddressFamily, address: Any, *, dual_stack: bool) -> socket.socket:
    bound = socket.socket(family)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual_stack)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    bound.set_inheritable(True)
    return bound


def _not_an_address() -> SettingsError:
    # An active conda environment exports HOST as the name of its platform.
    return SettingsError(["HOST: is not an address of this machine; unset it, or set it to an IP address such as ::"])
