"""Clerk's user as a row."""

from typing import Any

import pytest

from sync_service.clerk.events import read_event
from sync_service.clerk.values import Snapshot
from sync_service.errors import SettingsError
from sync_service.mapping.file import read_mapping
from sync_service.mapping.presets import DEFAULT
from sync_service.mapping.table import Row
from tests.world import T1, as_bytes, email, event, with_email


def row(**data: Any) -> Row:
    change = read_event("msg_1", as_bytes(event("user.updated", "user_1", T1, **data))).change
    assert isinstance(change, Snapshot)
    return DEFAULT.row(change)


def test_every_column_of_the_contract_is_there() -> None:
    assert list(row()) == [
        *("id", "email", "email_verified", "phone", "username", "first_name", "last_name", "image_url", "external_id"),
        *("banned", "locked", "public_metadata", "last_sign_in_at", "created_at", "updated_at"),
    ]


def test_a_user_without_anything_has_nulls_where_the_contract_says_null() -> None:
    """E1."""
    found = row(first_name=None, last_name=None, created_at=None)
    assert found["id"] == "user_1"
    for column in ("email", "phone", "username", "first_name", "last_name", "image_url", "external_id"):
        assert found[column] is None
    assert (found["email_verified"], found["banned"], found["locked"]) == (False, False, False)
    assert found["public_metadata"] == {}
    assert found["last_sign_in_at"] is None
    assert found["created_at"] is None


@pytest.mark.parametrize("column", ["username", "first_name", "last_name", "image_url", "external_id"])
def test_an_empty_text_is_none(column: str) -> None:
    """E2: two users without a name are not two users named ""."""
    assert row(**{column: ""})[column] is None


def test_an_empty_address_is_none() -> None:
    address = email("x") | {"email_address": ""}
    assert row(email_addresses=[address], primary_email_address_id=address["id"])["email"] is None


@pytest.mark.parametrize(
    ("verification", "verified"),
    [
        (None, False),
        ({}, False),
        ({"status": "verified"}, True),
        ({"status": "unverified"}, False),
        ({"status": "new"}, False),
    ],
)
def test_an_address_is_verified_only_when_clerk_says_so(verification: object, verified: bool) -> None:
    """E7."""
    address = email("x") | {"verification": verification}
    assert row(email_addresses=[address], primary_email_address_id=address["id"])["email_verified"] is verified


def test_times_are_clerk_s_to_the_millisecond() -> None:
    found = row(created_at=1716883200123)
    assert found["created_at"] == 1716883200123


def test_the_primary_phone_is_the_one_that_is_named() -> None:
    phones = [{"id": "idn_a", "phone_number": "+15555550100"}, {"id": "idn_b", "phone_number": "+15555550101"}]
    assert row(phone_numbers=phones, primary_phone_number_id="idn_b")["phone"] == "+15555550101"
    assert row(phone_numbers=phones)["phone"] is None


def test_bans_and_locks_are_taken_and_lifted() -> None:
    """K8 for the default table."""
    assert row(banned=True, locked=True)["banned"] is True
    assert row(banned=False, locked=None, **with_email("x"))["locked"] is False


@pytest.mark.parametrize("column", ["role", "user_role", "isAdmin", "tier", "plan", "permissions"])
def test_what_somebody_may_do_is_never_filled_from_what_he_writes_himself(column: str) -> None:
    """L9: unsafe_metadata can be written from any browser; an owner who maps it there is told so at the start."""
    text = f"""
        [users]
        clerk_id = "id"
        columns = {{ {column} = "unsafe_metadata.{column}" }}
    """
    with pytest.raises(SettingsError, match=f"users.columns.{column}: users write their unsafe_metadata"):
        read_mapping(text)
    assert column in read_mapping(text.replace("unsafe", "public")).columns
    assert "planet" in read_mapping(text.replace(f"{{ {column}", "{ planet")).columns
