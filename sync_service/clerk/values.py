"""Clerk's user, and the two things that any source can say of one: this is how it is, or it is gone.

Names are Clerk's own (its Backend API, object `User`). Only the fields that a mapping may need are here, each as
lenient as reality is: what Clerk leaves out or sets to null is none, what it adds is passed over.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, Struct

# Milliseconds since 1970, up to the year 9999. As `float`, so that 1716883200000.0 is as good as 1716883200000:
# JSON has one kind of number, and a double holds these exactly.
Milliseconds: TypeAlias = Annotated[float, Meta(ge=0, le=253_402_300_799_999)]
ClerkId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[!-~]+$")]


# Secrets of the app and input of strangers: in no table, of the app or ours, unless a mapping asks for one by name.
WITHHELD = ("private_metadata", "unsafe_metadata")

# Bytes; postgres/changes.sql counts on it.
DIGEST = 16


class Verification(Struct, frozen=True):
    """`status` is an open set (verified, unverified, expired, failed, …); only `verified` counts."""

    status: str | None = None


class EmailAddress(Struct, frozen=True):
    """`verification` is null while the address was just added."""

    id: str | None = None
    email_address: str | None = None
    verification: Verification | None = None


class PhoneNumber(Struct, frozen=True):
    """As `EmailAddress`; the number is E.164."""

    id: str | None = None
    phone_number: str | None = None


class User(Struct, frozen=True, kw_only=True):
    """A user as of `updated_at`."""

    id: ClerkId
    updated_at: Milliseconds
    created_at: Milliseconds | None = None
    last_sign_in_at: Milliseconds | None = None
    primary_email_address_id: str | None = None
    primary_phone_number_id: str | None = None
    email_addresses: tuple[EmailAddress, ...] | None = None
    phone_numbers: tuple[PhoneNumber, ...] | None = None
    username: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    image_url: str | None = None
    external_id: str | None = None
    banned: bool | None = None
    locked: bool | None = None
    public_metadata: dict[str, Any] | None = None

    @property
    def primary_email_address(self) -> EmailAddress | None:
        """The address that `primary_email_address_id` names; never merely the first, which is the newest."""
        wanted = self.primary_email_address_id
        return next((a for a in self.email_addresses or () if wanted and a.id == wanted), None)

    @property
    def primary_phone_number(self) -> PhoneNumber | None:
        """The number that `primary_phone_number_id` names."""
        wanted = self.primary_phone_number_id
        return next((p for p in self.phone_numbers or () if wanted and p.id == wanted), None)


class Version(Struct, frozen=True, order=True):
    """Orders two snapshots of one user, whatever order they arrive in.

    `updated_at` is Clerk's, in milliseconds. Two snapshots of one millisecond are told apart by `tie`, a digest of
    what they say: which of them wins means nothing, that it is always the same one means everything. What Clerk says
    when it is asked is what is true, so it is greater than whatever else was told of that millisecond.
    """

    updated_at: int
    tie: bytes

    @classmethod
    def of(cls, user: User) -> "Version":
        """Return the version of a user as Clerk described it."""
        said = msgspec.json.encode(user, order="sorted")
        return cls(int(user.updated_at), hashlib.blake2b(said, digest_size=DIGEST).digest())

    @classmethod
    def fetched(cls, user: User) -> "Version":
        """Return the version of a user as Clerk described it when it was asked."""
        told = cls.of(user)
        return cls(told.updated_at, b"\xff" * DIGEST + told.tie)

    @property
    def content(self) -> bytes:
        """The digest of what was said, whoever told it."""
        return self.tie[-DIGEST:]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A user as it was at `version`. `said` is the whole of it as Clerk's JSON, for mappings that read more."""

    user: User
    version: Version
    said: bytes = field(default=b"{}", repr=False, compare=False)
    clerk_id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "clerk_id", self.user.id)


class Deletion(Struct, frozen=True):
    """A user who is gone. It has no version: Clerk never reuses an ID, so it is final."""

    clerk_id: str


Change: TypeAlias = Snapshot | Deletion
