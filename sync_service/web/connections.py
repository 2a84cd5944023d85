"""Limits on connections and on the bodies they hold, for each caller's network and in total.

One caller cannot use up the connections or the memory of the others: each peer gets a part of both.
"""

import resource
from ipaddress import IPv6Address
from typing import Protocol

# File descriptors for the database, listening sockets, the log and files.
RESERVED_DESCRIPTORS = 96
MAX_DESCRIPTORS = 65_536

MAX_CONNECTIONS = 2048
# All callers behind one proxy are one peer.
MAX_PEER_CONNECTIONS = 512

# Bodies that a response does not yet follow. Svix sends up to 350 kB, mostly 3 kB.
MAX_BODY_BYTES = 48 * 1024 * 1024
MAX_PEER_BODY_BYTES = 24 * 1024 * 1024


class Connection(Protocol):
    """A connection that can be closed while it waits for a request."""

    def close_idle(self) -> None:
        """Close the connection."""


def find_caller(address: str) -> str:
    """Return the network of one caller: the address, or the /64 of an IPv6 address, since one host has all of it.

    An IPv4 address on a socket for IPv6 (`::ffff:203.0.113.7`) is a caller of its own.
    """
    if ":" not in address or "." in address:
        return address
    try:
        return IPv6Address(address).packed[:8].hex()
    except ValueError:
        return address


class Peer:
    """The connections of one caller. `waiting` has those without a complete request head, the oldest first."""

    def __init__(self) -> None:
        self.connections = 0
        self.body_bytes = 0
        self.waiting: dict[Connection, None] = {}


class ConnectionLimits:
    """The connections of one process."""

    def __init__(self) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._max_connections = max(2, min(MAX_CONNECTIONS, soft - RESERVED_DESCRIPTORS))
        self._max_peer_connections = min(MAX_PEER_CONNECTIONS, self._max_connections // 2)
        self._peers: dict[str, Peer] = {}
        self._connections = 0
        self._body_bytes = 0

    def add(self, address: str, connection: Connection) -> Peer | None:
        """Count a new connection; return its peer, or None if there are too many.

        A peer with too many connections first loses the oldest one that waits for a request head. So half-open requests
        cannot keep out requests that are sent.
        """
        peer = self._peers.setdefault(address, Peer())
        if peer.connections >= self._max_peer_connections and peer.waiting:
            oldest = next(iter(peer.waiting))
            del peer.waiting[oldest]
            oldest.close_idle()
        elif peer.connections >= self._max_peer_connections or self._connections >= self._max_connections:
            return None
        peer.connections += 1
        self._connections += 1
        peer.waiting[connection] = None
        return peer

    def remove(self, address: str, peer: Peer, connection: Connection, body_bytes: int) -> None:
        """Forget a closed connection and its bodies."""
        peer.waiting.pop(connection, None)
        peer.connections -= 1
        self._connections -= 1
        self.release_body(peer, body_bytes)
        if not peer.connections:
            del self._peers[address]

    def hold_body(self, peer: Peer, size: int) -> bool:
        """Count the bytes of a body; return whether they are within the limits."""
        peer.body_bytes += size
        self._body_bytes += size
        return peer.body_bytes <= MAX_PEER_BODY_BYTES and self._body_bytes <= MAX_BODY_BYTES

    def release_body(self, peer: Peer, size: int) -> None:
        """Forget the bytes of bodies whose responses are complete."""
        peer.body_bytes -= size
        self._body_bytes -= size


def raise_descriptor_limit() -> None:
    """Use as many file descriptors as the system allows: each connection needs one, and the usual limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
