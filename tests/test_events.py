"""A webhook's bytes are parsed to an event."""

import json
from typing import Any

import msgspec
import pytest

from sync_service.clerk.change import Deletion, Snapshot, Version
from sync_service.clerk.events import Event, parse_event
from sync_service.clerk.sample_events import build_sample_event
from sync_service.request_errors import BadPayload
from tests.world import T1, encode_body, make_email, make_event, make_user_data


def parse(body: Any) -> Event:
    return parse_event("msg_1", encode_body(body))


def parse_snapshot(**data: Any) -> Snapshot:
    change = parse(make_event("user.updated", "user_1", **data)).change
    assert isinstance(change, Snapshot)
    return change


@pytest.mark.parametrize("event_type", ["user.created", "user.updated"])
def test_a_saved_user_is_a_snapshot(event_type: str) -> None:
    found = parse(build_sample_event(event_type, "user_1", milliseconds=T1))
    assert (found.id, found.type, found.clerk_id, found.error) == ("msg_1", event_type, "user_1", None)
    assert isinstance(found.change, Snapshot)
    assert found.change.clerk_id == "user_1"
    assert found.change.version.updated_at == T1


@pytest.mark.parametrize("timestamp", [T1, T1 // 1000, 0, None], ids=["milliseconds", "seconds", "zero", "null"])
def test_a_deletion_has_no_version(timestamp: int | None) -> None:
    """The envelope's timestamp is seconds or milliseconds, and absent in old events, so a deletion ignores it (F11)."""
    body = make_event("user.deleted", "user_1") | ({"timestamp": timestamp} if timestamp is not None else {})
    assert parse(body).change == Deletion("user_1")


@pytest.mark.parametrize(
    "event_type", ["session.created", "email.created", "organizationMembership.deleted", "foo.bar"]
)
def test_of_an_unhandled_event_only_the_type_is_kept(event_type: str) -> None:
    """Events other than user events keep no user and no payload (C9)."""
    found = parse(
        {"type": event_type, "data": {"id": "x", "user": {"first_name": "PII_SENTINEL"}}, "instance_id": "ins_1"}
    )
    assert found == Event("msg_1", event_type, "ins_1")


def test_private_and_unsafe_metadata_never_reach_the_payload() -> None:
    """The payload contains all fields of the user except private and unsafe metadata (E7)."""
    body = make_event("user.updated", "user_1", private_metadata={"k": "SENTINEL"}, unsafe_metadata={"k": "SENTINEL"})
    found = parse(body)
    assert found.payload is not None
    assert "SENTINEL" not in found.payload.replace("PII_SENTINEL", "")
    kept = body["data"].keys() - {"private_metadata", "unsafe_metadata"}
    assert json.loads(found.payload) == {key: body["data"][key] for key in kept}


def test_the_primary_email_is_the_named_one_and_not_the_first() -> None:
    emails = [make_email("newest"), make_email("primary"), make_email("old")]
    user = parse_snapshot(email_addresses=emails, primary_email_address_id="idn_primary").user
    assert user.primary_email_address
    assert user.primary_email_address.id == "idn_primary"


@pytest.mark.parametrize("named", [None, "", "idn_unknown"])
def test_an_absent_or_dangling_primary_email_is_none(named: str | None) -> None:
    without_id = {"email_address": "a@example.com"}
    user = parse_snapshot(email_addresses=[make_email("first"), without_id], primary_email_address_id=named).user
    assert user.primary_email_address is None


@pytest.mark.parametrize("absence", [None, "absent"])
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
def test_null_and_absent_are_none(name: str, absence: str | None) -> None:
    body = make_event("user.updated", "user_1")
    body["data"].pop(name, None)
    if absence is None:
        body["data"][name] = None
    assert parse(body).error is None


def test_unknown_fields_are_ignored() -> None:
    """Fifty unknown fields do not change the version (E6)."""
    extra = {f"field_{n}": {"deep": [n]} for n in range(50)}
    assert parse_snapshot(**extra).version == parse_snapshot().version


@pytest.mark.parametrize("number", [T1, float(T1), f"{T1 / 1000}e3"], ids=["integer", "float", "exponent"])
def test_a_time_may_be_written_as_any_number(number: object) -> None:
    body = json.dumps(make_event("user.updated", "user_1", updated_at=0)).replace(
        '"updated_at": 0', f'"updated_at": {number}'
    )
    change = parse(body.encode()).change
    assert isinstance(change, Snapshot)
    assert change.version.updated_at == T1


WRONG: list[object] = [5, -1, 1.5, True, "text", [], {}, [5], ["text"], [[]], {"id": 5}, 2**70]


@pytest.mark.parametrize(
    "name", [*make_user_data("user_1", T1), "phone_numbers", "banned", "locked", "public_metadata", "username"]
)
@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_a_wrong_type_in_a_field_is_an_unreadable_user_or_ignored(name: str, wrong: object) -> None:
    """`parse_event` never raises for a wrong type: the event keeps its payload and its error, so it can be stored."""
    body = make_event("user.updated", "user_1")
    body["data"][name] = wrong
    found = parse(body)
    assert (found.change is None) == (found.error == "unreadable_user")
    assert found.payload is not None


def test_an_unreadable_user_keeps_its_id_when_that_can_be_read() -> None:
    assert parse(make_event("user.updated", "user_1", email_addresses="none")).clerk_id == "user_1"
    assert parse(make_event("user.updated", "user_1", id=5)).clerk_id is None
    assert parse({"type": "user.deleted", "data": {"deleted": True, "object": "user"}}).error == "unreadable_user"


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
        b'{"type": "user.created", "data": {"first_name": "\xff"}}',
        b'{"type": "user.created", "data": {"public_metadata": ' + b"[" * 9_000 + b"}}",
        b'{"type": "user.created\\u0000", "data": {}}',
        b'{"type": "user.created", "data": {}, "instance_id": "ins_\\u00001"}',
        b'{"type": "user.created", "data": {"public_metadata": NaN}}',
        b'\xef\xbb\xbf{"type": "user.created", "data": {}}',
    ],
)
def test_an_invalid_body_is_refused_without_a_quotation_of_it(body: bytes) -> None:
    """A body that is not an event raises BadPayload with a message that contains no part of the body (B7)."""
    with pytest.raises(BadPayload) as raised:
        parse(body)
    assert "user_1" not in str(raised.value)


def test_a_version_depends_on_the_content_and_not_on_its_format() -> None:
    """Key order and white space do not change the version; other content with the same timestamp does (F7)."""
    plain = make_event("user.updated", "user_1", public_metadata={"b": 1, "a": [1, {"y": 2, "x": 3}]})
    turned = json.dumps(dict(reversed(plain["data"].items())), indent=3)
    turned = turned.replace('"b": 1,', "").replace('"a": [', '"b": 1, "a": [')
    same = parse(json.dumps(plain | {"data": json.loads(turned)}, indent=2).encode()).change
    first = parse(plain).change
    assert isinstance(first, Snapshot)
    assert isinstance(same, Snapshot)
    assert first.version == same.version
    other = parse_snapshot(public_metadata={"b": 2, "a": [1, {"y": 2, "x": 3}]})
    assert other.version.updated_at == first.version.updated_at
    assert other.version != first.version


def test_versions_are_ordered_by_time_before_all_else() -> None:
    assert Version(1, b"\xff") < Version(2, b"\x00") < Version(2, b"\x01")


def test_metadata_with_numbers_of_any_size_is_a_user() -> None:
    assert parse_snapshot(public_metadata={"n": 2**70, "x": 1e308}).user.public_metadata == {"n": 2**70, "x": 1e308}
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b"1e999")
