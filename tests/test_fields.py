"""The values of columns, by their source in Clerk's user."""

from typing import Any

import pytest

from sync_service.clerk.change import Snapshot
from sync_service.clerk.events import parse_event
from sync_service.mapping.fields import FieldSource
from sync_service.mapping.presets import PRESETS
from sync_service.mapping.table import TableMapping
from tests.world import T1, encode_body, make_email_fields, make_event


def parse_snapshot(**data: Any) -> Snapshot:
    change = parse_event("msg_1", encode_body(make_event("user.updated", "user_1", T1, **data))).change
    assert isinstance(change, Snapshot)
    return change


def read_value(column: FieldSource, **data: Any) -> Any:
    return TableMapping(id_column="id", columns={"x": column}).build_row(parse_snapshot(**data))["x"]


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
        pytest.param("last_active_at", T1, id="last_active_at"),
        ("full_name", "Ada"),
    ],
)
def test_a_path_gives_its_value_or_null(path: str, found: object) -> None:
    """An empty text in a field of Clerk is NULL; in the app's metadata it is kept."""
    metadata = {"plan": "pro", "limits": {"day": 5}, "tags": ["a", "b"], "empty": ""}
    data = {"public_metadata": metadata, "locale": "", "last_active_at": T1, "first_name": "Ada", "last_name": None}
    assert read_value(FieldSource(path), **data) == found


def test_a_placeholder_for_null_contains_the_clerk_id() -> None:
    column = FieldSource("primary_email", when_null="{clerk_id}@users.invalid")
    assert read_value(column) == "user_1@users.invalid"
    assert read_value(column, **make_email_fields("x")) == make_email_fields("x")["email_addresses"][0]["email_address"]
    assert read_value(FieldSource("public_metadata.level", when_null=0)) == 0


def test_the_whole_user_has_no_private_or_unsafe_metadata() -> None:
    """`$` does not contain metadata that must be mapped by name (E7, L9)."""
    data = {"private_metadata": {"secret": 1}, "unsafe_metadata": {"role": "admin"}, "new_field": [1]}
    whole = read_value(FieldSource("$"), **data)
    assert whole.keys() & {"private_metadata", "unsafe_metadata"} == set()
    assert whole["new_field"] == [1]
    assert read_value(FieldSource("private_metadata.secret"), **data) == 1


def test_the_payload_keeps_only_the_withheld_fields_that_a_column_names() -> None:
    mapping = TableMapping(id_column="id", columns={"x": FieldSource("private_metadata.secret"), "y": FieldSource("$")})
    assert mapping.redacted_fields == ("unsafe_metadata",)
    body = encode_body(
        make_event("user.updated", "user_1", T1, private_metadata={"secret": 1}, unsafe_metadata={"a": 1})
    )
    kept = parse_event("msg_1", body, {"user": mapping.redacted_fields}).payload or ""
    assert "private_metadata" in kept
    assert "unsafe_metadata" not in kept


def test_neon_s_document_has_the_keys_of_its_generated_columns() -> None:
    row = PRESETS["neon_auth"].build_row(parse_snapshot(first_name="Ada", last_name="L", **make_email_fields("x")))
    assert row["raw_json"]["display_name"] == "Ada L"
    assert row["raw_json"]["primary_email"] == row["email"]
    assert row["raw_json"]["signed_up_at_millis"] == row["created_at"]
    assert row["raw_json"]["first_name"] == "Ada"


def test_the_version_includes_fields_that_only_a_mapping_reads() -> None:
    """Else the first of two versions with the same timestamp would stay (F7)."""
    mapping = TableMapping(id_column="id", columns={"locale": FieldSource("locale")})
    german, english = parse_snapshot(locale="de"), parse_snapshot(locale="en")
    assert german.version == english.version
    assert mapping.compute_version(german) != mapping.compute_version(english)
    assert mapping.compute_version(german) == mapping.compute_version(parse_snapshot(locale="de", scim={"x": 1}))
