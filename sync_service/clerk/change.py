"""The two changes that a source can report: a snapshot of a user, or a deletion (pure)."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from sync_service.clerk.user import User

# Bytes. mapping/sql/apply_changes.sql depends on it.
DIGEST_SIZE = 16


class Version(Struct, frozen=True, order=True):
    """Orders the snapshots of one user, independent of their order of arrival.

    `updated_at` is Clerk's, in milliseconds. Two snapshots of the same millisecond are ordered by `tiebreak`, a digest
    of their content: the order is arbitrary, but the same snapshot wins everywhere. A snapshot from Clerk's API is the
    current state, so its version is greater than that of any webhook of the same millisecond.
    """

    updated_at: int
    tiebreak: bytes

    @classmethod
    def from_webhook(cls, user: User) -> "Version":
        """Return the version of a user from a webhook."""
        return cls(int(user.updated_at), _compute_digest(user))

    @classmethod
    def from_api(cls, user: User) -> "Version":
        """Return the version of a user from Clerk's API."""
        return cls(int(user.updated_at), _API_PREFIX + _compute_digest(user))

    @property
    def digest(self) -> bytes:
        """The digest of the user, which is the same from a webhook and from the API."""
        return self.tiebreak[-DIGEST_SIZE:]


_API_PREFIX = b"\xff" * DIGEST_SIZE


def _compute_digest(user: User) -> bytes:
    return hashlib.blake2b(msgspec.json.encode(user, order="sorted"), digest_size=DIGEST_SIZE).digest()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A user at `version`. `data` is Clerk's whole JSON of the user, for mappings that read more than `User` has."""

    user: User
    version: Version
    data: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def clerk_id(self) -> str:
        """The user's ID."""
        return self.user.id


class Deletion(Struct, frozen=True):
    """The deletion of a user. It has no version: Clerk never reuses an ID, so it is final."""

    clerk_id: str


Change: TypeAlias = Snapshot | Deletion
