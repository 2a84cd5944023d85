"""What a column is filled with."""

from typing import Any

import pytest

from sync_service.clerk.events import read_event
from sync_service.clerk.values import Snapshot
from sync_service.mapping.presets import PRESETS
from sync_service.mapping.sources import Column
from sync_service.mapping.table import TableMapping
from tests.world import T1, encode_body, make_email_fields, make_event


def snapshot(**data: Any) -> Snapshot:
    change = read_event("msg_1", encode_body(make_event("user.updated", "user_1", T1, **data))).change
    assert isinstance(change, Snapshot)
    return change


def value(column: Column, **data: Any) -> Any:
    return TableMapping(clerk_id="id", columns={"x": column}).row(snapshot(**data))["x"]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("public_metadata.plan", "pro"),
        ("public_metadata.limits.day", 5),
        ("public_metadata.missing", None),
        ("public_metadata.plan.deeper", None),
        ("public_metadata.tags", ["a", "b"]),
        ("public_metadata.tags.1", "b"),
        ("public_metadata.tags.7", None),
        ("public_metadata.empty", ""),
        ("locale", None),
        ("gender", None),
        ("last_active_at", T1),
        ("full_name", "Ada"),
    ],
)
def test_a_path_leads_to_its_value_or_to_null(path: str, found: object) -> None:
    """An empty text in a field of Clerk's own is none; in the app's metadata it is the app's."""
    metadata = {"plan": "pro", "limits": {"day": 5}, "tags": ["a", "b"], "empty": ""}
    data = {"public_metadata": metadata, "locale": "", "last_active_at": T1, "first_name": "Ada", "last_name": None}
    assert value(Column(path), **data) == found


def test_what_stands_in_for_null_names_the_user() -> None:
    column = Column("primary_email", when_null="{clerk_id}@users.invalid")
    assert value(column) == "user_1@users.invalid"
    assert value(column, **make_email_fields("x")) == make_email_fields("x")["email_addresses"][0]["email_address"]
    assert value(Column("public_metadata.level", when_null=0)) == 0


def test_the_whole_user_is_without_what_must_be_asked_for_by_name() -> None:
    """L9, E7: `$` is no way around it."""
    data = {"private_metadata": {"secret": 1}, "unsafe_metadata": {"role": "admin"}, "new_field": [1]}
    whole = value(Column("$"), **data)
    assert whole.keys() & {"private_metadata", "unsafe_metadata"} == set()
    assert whole["new_field"] == [1]
    assert value(Column("private_metadata.secret"), **data) == 1


def test_the_payload_keeps_only_the_withheld_fields_that_a_column_names() -> None:
    mapping = TableMapping(clerk_id="id", columns={"x": Column("private_metadata.secret"), "y": Column("$")})
    assert mapping.withheld == ("unsafe_metadata",)
    body = encode_body(
        make_event("user.updated", "user_1", T1, private_metadata={"secret": 1}, unsafe_metadata={"a": 1})
    )
    kept = read_event("msg_1", body, mapping.withheld).payload or ""
    assert "private_metadata" in kept
    assert "unsafe_metadata" not in kept


def test_neon_s_document_has_the_keys_that_its_columns_are_made_of() -> None:
    row = PRESETS["neon_auth"].row(snapshot(first_name="Ada", last_name="L", **make_email_fields("x")))
    assert row["raw_json"]["display_name"] == "Ada L"
    assert row["raw_json"]["primary_email"] == row["email"]
    assert row["raw_json"]["signed_up_at_millis"] == row["created_at"]
    assert row["raw_json"]["first_name"] == "Ada"


def test_two_contents_of_one_millisecond_differ_also_in_what_only_a_mapping_reads() -> None:
    """F7 for any column: else the one that comes first would stay."""
    mapping = TableMapping(clerk_id="id", columns={"locale": Column("locale")})
    german, english = snapshot(locale="de"), snapshot(locale="en")
    assert german.version == english.version
    assert mapping.version(german) != mapping.version(english)
    assert mapping.version(german) == mapping.version(snapshot(locale="de", scim={"x": 1}))
