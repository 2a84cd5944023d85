"""The two changes that a source can report: a snapshot of an object of Clerk, or its deletion (pure)."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from sync_service.clerk.resource import Resource, Session
from sync_service.clerk.user import User

# Bytes. mapping/sql/apply_changes.sql depends on it.
DIGEST_SIZE = 16


class Version(Struct, frozen=True, order=True):
    """Orders the snapshots of one object, independent of their order of arrival.

    `updated_at` is Clerk's, in milliseconds. Two snapshots of the same millisecond are ordered by `tiebreak`, a digest
    of their content: the order is arbitrary, but the same snapshot wins everywhere. A snapshot from Clerk's API is the
    current state, so its version is greater than that of any webhook of the same millisecond.
    """

    updated_at: int
    tiebreak: bytes

    @classmethod
    def from_webhook(cls, resource: Resource) -> "Version":
        """Return the version of an object from a webhook."""
        return cls(int(resource.updated_at), _compute_digest(resource))

    @classmethod
    def from_api(cls, resource: Resource) -> "Version":
        """Return the version of an object from Clerk's API."""
        return cls(int(resource.updated_at), _API_PREFIX + _compute_digest(resource))

    @property
    def digest(self) -> bytes:
        """The digest of the object, which is the same from a webhook and from the API."""
        return self.tiebreak[-DIGEST_SIZE:]

    def with_content(self, content: bytes, resource: Resource) -> "Version":
        """Return the version with a digest that also covers `content`."""
        return Version(self.updated_at, self.tiebreak[:-DIGEST_SIZE] + _digest(self.digest + content, resource))


_API_PREFIX = b"\xff" * DIGEST_SIZE


def _compute_digest(resource: Resource) -> bytes:
    return _digest(msgspec.json.encode(resource, order="sorted"), resource)


def _digest(content: bytes, resource: Resource) -> bytes:
    digest = hashlib.blake2b(content, digest_size=DIGEST_SIZE).digest()
    if isinstance(resource, Session):
        # An ended session stays ended, so of two snapshots of one millisecond the ended one wins.
        return bytes([resource.has_ended]) + digest[1:]
    return digest


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An object at `version`. `data` is Clerk's whole JSON of it, for mappings that read more than `resource` has."""

    resource: Resource
    version: Version
    data: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def clerk_id(self) -> str:
        """The object's ID."""
        return self.resource.id

    @property
    def user(self) -> User:
        """The object of a snapshot that is known to show a user."""
        assert isinstance(self.resource, User)  # noqa: S101  only the table of the users asks for it
        return self.resource


class Deletion(Struct, frozen=True):
    """The deletion of an object. It has no version: Clerk never reuses an ID, so it is final."""

    clerk_id: str


Change: TypeAlias = Snapshot | Deletion
