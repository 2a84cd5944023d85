"""Clerk's user.

Names are Clerk's own (its Backend API, object `User`). Only the fields that a mapping may need are here.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from sync_service.clerk.resource import Milliseconds, Resource

# Private metadata may contain secrets of the app; the users themselves write unsafe metadata. Neither is stored in any
# table, unless the mapping names it.
REDACTED_FIELDS = ("private_metadata", "unsafe_metadata")


class Verification(Struct, frozen=True):
    """`status` is an open set (verified, unverified, expired, failed, …); only `verified` has a meaning here."""

    status: str | None = None


class EmailAddress(Struct, frozen=True):
    """`verification` is null for an email that was just added."""

    id: str | None = None
    email_address: str | None = None
    verification: Verification | None = None


class PhoneNumber(Struct, frozen=True):
    """Like `EmailAddress`; the number has the format E.164."""

    id: str | None = None
    phone_number: str | None = None


Contact = TypeVar("Contact", EmailAddress, PhoneNumber)


class User(Resource, frozen=True, kw_only=True):
    """A user as of `updated_at`."""

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
        """The email that `primary_email_address_id` names. The first in the list is the newest, not the primary one."""
        return _find(self.email_addresses, self.primary_email_address_id)

    @property
    def primary_phone_number(self) -> PhoneNumber | None:
        """The phone number that `primary_phone_number_id` names."""
        return _find(self.phone_numbers, self.primary_phone_number_id)


def _find(contacts: Iterable[Contact] | None, primary_id: str | None) -> Contact | None:
    if contacts and primary_id:
        for contact in contacts:
            if contact.id == primary_id:
                return contact
    return None


def decode_user(content: bytes | Raw) -> tuple[User, dict[str, Any]]:
    """Return a user from Clerk's JSON, and all its fields. Raises one of `UNREADABLE_JSON`."""
    return _user_decoder.decode(content), _fields_decoder.decode(content)


_user_decoder = msgspec.json.Decoder(User)
_fields_decoder = msgspec.json.Decoder(dict[str, Any])
