"""Bytes in, an event out."""

import json
from typing import Any

import msgspec
import pytest

from sync_service.clerk.events import UNREADABLE, Event, read_event
from sync_service.clerk.samples import sample_event
from sync_service.clerk.values import Deletion, Snapshot, Version
from sync_service.errors import BadPayload
from tests.world import T1, encode_body, make_email, make_event, make_user_data


def read(body: Any) -> Event:
    return read_event("msg_1", encode_body(body))


def snapshot(**data: Any) -> Snapshot:
    change = read(make_event("user.updated", "user_1", **data)).change
    assert isinstance(change, Snapshot)
    return change


@pytest.mark.parametrize("event_type", ["user.created", "user.updated"])
def test_a_saved_user_is_a_snapshot(event_type: str) -> None:
    found = read(sample_event(event_type, "user_1", milliseconds=T1))
    assert (found.id, found.type, found.clerk_id, found.fault) == ("msg_1", event_type, "user_1", None)
    assert isinstance(found.change, Snapshot)
    assert found.change.clerk_id == "user_1"
    assert found.change.version.updated_at == T1


@pytest.mark.parametrize("timestamp", [T1, T1 // 1000, 0, None])
def test_a_deletion_knows_no_time(timestamp: int | None) -> None:
    """F11: the envelope's timestamp is seconds here, milliseconds there, and absent in old events."""
    body = make_event("user.deleted", "user_1") | ({"timestamp": timestamp} if timestamp is not None else {})
    assert read(body).change == Deletion("user_1")


@pytest.mark.parametrize(
    "event_type", ["session.created", "email.created", "organizationMembership.deleted", "foo.bar"]
)
def test_what_is_not_handled_is_kept_by_type_alone(event_type: str) -> None:
    """C9."""
    found = read(
        {"type": event_type, "data": {"id": "x", "user": {"first_name": "PII_SENTINEL"}}, "instance_id": "ins_1"}
    )
    assert found == Event("msg_1", event_type, "ins_1")


def test_private_and_unsafe_metadata_never_reach_the_payload() -> None:
    """E7."""
    body = make_event("user.updated", "user_1", private_metadata={"k": "SENTINEL"}, unsafe_metadata={"k": "SENTINEL"})
    found = read(body)
    assert found.payload is not None
    assert "SENTINEL" not in found.payload.replace("PII_SENTINEL", "")
    kept = body["data"].keys() - {"private_metadata", "unsafe_metadata"}
    assert json.loads(found.payload) == {key: body["data"][key] for key in kept}


def test_the_primary_address_is_the_one_that_is_named_and_never_the_first() -> None:
    addresses = [make_email("newest"), make_email("primary"), make_email("old")]
    user = snapshot(email_addresses=addresses, primary_email_address_id="idn_primary").user
    assert user.primary_email_address
    assert user.primary_email_address.id == "idn_primary"


@pytest.mark.parametrize("named", [None, "", "idn_nobody"])
def test_a_primary_address_that_is_absent_or_dangling_is_none(named: str | None) -> None:
    without_id = {"email_address": "a@example.com"}
    user = snapshot(email_addresses=[make_email("first"), without_id], primary_email_address_id=named).user
    assert user.primary_email_address is None


@pytest.mark.parametrize("nothing", [None, "absent"])
@pytest.mark.parametrize(
    "name",
    [
        "created_at",
        "email_addresses",
        "phone_numbers",
        "first_name",
        "banned",
        "public_metadata",
        "primary_email_address_id",
    ],
)
def test_null_and_absent_are_none(name: str, nothing: str | None) -> None:
    body = make_event("user.updated", "user_1")
    body["data"].pop(name, None)
    if nothing is None:
        body["data"][name] = None
    assert read(body).fault is None


def test_unknown_fields_are_passed_over() -> None:
    """E6."""
    extra = {f"field_{n}": {"deep": [n]} for n in range(50)}
    assert snapshot(**extra).version == snapshot().version


@pytest.mark.parametrize("number", [T1, float(T1), f"{T1 / 1000}e3"])
def test_a_time_may_be_written_as_any_number(number: object) -> None:
    body = json.dumps(make_event("user.updated", "user_1", updated_at=0)).replace(
        '"updated_at": 0', f'"updated_at": {number}'
    )
    change = read(body.encode()).change
    assert isinstance(change, Snapshot)
    assert change.version.updated_at == T1


WRONG: list[object] = [5, -1, 1.5, True, "text", [], {}, [5], ["text"], [[]], {"id": 5}, 2**70]


@pytest.mark.parametrize(
    "name", [*make_user_data("user_1", T1), "phone_numbers", "banned", "locked", "public_metadata", "username"]
)
@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_a_wrong_type_in_any_field_is_an_unreadable_user_or_no_matter(name: str, wrong: object) -> None:
    """It never raises, and the event is never lost: it is there, with its fault, to be stored."""
    body = make_event("user.updated", "user_1")
    body["data"][name] = wrong
    found = read(body)
    assert (found.change is None) == (found.fault == UNREADABLE)
    assert found.payload is not None


def test_an_unreadable_user_keeps_its_id_when_that_can_be_read() -> None:
    assert read(make_event("user.updated", "user_1", email_addresses="none")).clerk_id == "user_1"
    assert read(make_event("user.updated", "user_1", id=5)).clerk_id is None
    assert read({"type": "user.deleted", "data": {"deleted": True, "object": "user"}}).fault == UNREADABLE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b'"x"',
        b"5",
        b"{}",
        b"{",
        b"\xff\xfe",
        b'{"type": "user.created"}',
        b'{"type": 5, "data": {}}',
        b'{"type": "", "data": {}}',
        b'{"type": "a b", "data": {}}',
        b'{"type": "user.created", "data": null}',
        b'{"type": "user.created", "data": []}',
        b'{"type": "user.created", "data": "x"}',
        b'{"type": "user.created", "data": {"id": "user_1"}, "instance_id": 5}',
        b'{"type": "user.created", "data": {"first_name": "\\ud800"}}',
        b'{"type": "user.created", "data": {"first_name": "\xff"}}',
        b'{"type": "user.created", "data": {"public_metadata": ' + b"[" * 9_000 + b"]" * 9_000 + b"}}",
        b'{"type": "user.created", "data": {"public_metadata": NaN}}',
        b'\xef\xbb\xbf{"type": "user.created", "data": {}}',
    ],
)
def test_what_is_no_event_is_refused_without_a_word_of_it(body: bytes) -> None:
    """B7."""
    with pytest.raises(BadPayload) as raised:
        read(body)
    assert "user_1" not in str(raised.value)


def test_a_version_depends_on_what_is_said_and_not_on_how() -> None:
    """F7: the tie of two snapshots of one instant."""
    plain = make_event("user.updated", "user_1", public_metadata={"b": 1, "a": [1, {"y": 2, "x": 3}]})
    turned = json.dumps(dict(reversed(plain["data"].items())), indent=3)
    turned = turned.replace('"b": 1,', "").replace('"a": [', '"b": 1, "a": [')
    same = read(json.dumps(plain | {"data": json.loads(turned)}, indent=2).encode()).change
    first = read(plain).change
    assert isinstance(first, Snapshot)
    assert isinstance(same, Snapshot)
    assert first.version == same.version
    other = snapshot(public_metadata={"b": 2, "a": [1, {"y": 2, "x": 3}]})
    assert other.version.updated_at == first.version.updated_at
    assert other.version != first.version


def test_versions_are_ordered_by_time_before_all_else() -> None:
    assert Version(1, b"\xff") < Version(2, b"\x00") < Version(2, b"\x01")


def test_metadata_with_numbers_of_any_size_is_a_user() -> None:
    assert snapshot(public_metadata={"n": 2**70, "x": 1e308}).user.public_metadata == {"n": 2**70, "x": 1e308}
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b"1e999")
