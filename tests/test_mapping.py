"""Clerk's user is mapped to a row."""

from typing import Any

import pytest

from sync_service.clerk.change import Snapshot
from sync_service.clerk.events import parse_event
from sync_service.errors import SettingsError
from sync_service.mapping.presets import DEFAULT
from sync_service.mapping.table import Row
from sync_service.mapping.toml import parse_mapping
from tests.world import T1, encode_body, make_email, make_email_fields, make_event


def map_user(**data: Any) -> Row:
    change = parse_event("msg_1", encode_body(make_event("user.updated", "user_1", T1, **data))).change
    assert isinstance(change, Snapshot)
    return DEFAULT.build_row(change)


def test_the_default_table_has_all_its_columns() -> None:
    assert list(map_user()) == [
        *("id", "email", "email_verified", "phone", "username", "first_name", "last_name", "image_url", "external_id"),
        *("banned", "locked", "public_metadata", "last_sign_in_at", "created_at", "updated_at"),
    ]


def test_a_user_without_data_has_nulls_in_the_nullable_columns() -> None:
    """A user without email, phone or names has NULL in these columns (E1)."""
    found = map_user(first_name=None, last_name=None, created_at=None)
    assert found["id"] == "user_1"
    for column in ("email", "phone", "username", "first_name", "last_name", "image_url", "external_id"):
        assert found[column] is None
    assert (found["email_verified"], found["banned"], found["locked"]) == (False, False, False)
    assert found["public_metadata"] == {}
    assert found["last_sign_in_at"] is None
    assert found["created_at"] is None


@pytest.mark.parametrize("column", ["username", "first_name", "last_name", "image_url", "external_id"])
def test_an_empty_text_is_none(column: str) -> None:
    """Two users without a name are not two users named "" (E2)."""
    assert map_user(**{column: ""})[column] is None


def test_an_empty_email_is_none() -> None:
    email = make_email("x") | {"email_address": ""}
    assert map_user(email_addresses=[email], primary_email_address_id=email["id"])["email"] is None


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
def test_an_email_is_verified_only_by_clerk_s_status(verification: object, verified: bool) -> None:
    """Only the status `verified` makes an email verified; `verification` may be null (E7)."""
    email = make_email("x") | {"verification": verification}
    assert map_user(email_addresses=[email], primary_email_address_id=email["id"])["email_verified"] is verified


def test_times_are_clerk_s_to_the_millisecond() -> None:
    found = map_user(created_at=1716883200123)
    assert found["created_at"] == 1716883200123


def test_the_primary_phone_is_the_one_that_is_named() -> None:
    phones = [{"id": "idn_a", "phone_number": "+15555550100"}, {"id": "idn_b", "phone_number": "+15555550101"}]
    assert map_user(phone_numbers=phones, primary_phone_number_id="idn_b")["phone"] == "+15555550101"
    assert map_user(phone_numbers=phones)["phone"] is None


def test_bans_and_locks_are_set_and_cleared() -> None:
    """`banned` and `locked` follow the event in both directions (K8)."""
    assert map_user(banned=True, locked=True)["banned"] is True
    assert map_user(banned=False, locked=None, **make_email_fields("x"))["locked"] is False


@pytest.mark.parametrize("column", ["role", "user_role", "isAdmin", "tier", "plan", "permissions"])
def test_a_permission_is_never_mapped_from_unsafe_metadata(column: str) -> None:
    """Any browser can write unsafe_metadata, so a mapping of a permission from it is refused at the start (L9)."""
    text = f"""
        [users]
        clerk_id = "id"
        columns = {{ {column} = "unsafe_metadata.{column}" }}
    """
    with pytest.raises(SettingsError, match=f"users.columns.{column}: users write their unsafe_metadata"):
        parse_mapping(text)
    assert column in parse_mapping(text.replace("unsafe", "public")).columns
    assert "planet" in parse_mapping(text.replace(f"{{ {column}", "{ planet")).columns
