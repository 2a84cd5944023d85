"""The stub of Clerk responds as Clerk's own specification requires."""

from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.clerk_stub import SECRET_KEY, ClerkStub, make_bearer_header
from tests.world import T0, make_email_fields

SPECIFICATION = "backend-api-2026-05-12.yml"


def _convert_nullable(schema: Any) -> Any:
    """Return a schema of OpenAPI 3.0 as JSON Schema, which has no `nullable`."""
    if isinstance(schema, list):
        return [_convert_nullable(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    coerce_value = {name: _convert_nullable(value) for name, value in schema.items() if name != "nullable"}
    return {"anyOf": [coerce_value, {"type": "null"}]} if schema.get("nullable") is True else coerce_value


@pytest.fixture(scope="session")
def specification(shared: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load((shared / SPECIFICATION).read_text(), Loader=yaml.CSafeLoader)
    return loaded


async def get_from_stub(clerk: ClerkStub, path: str, *, with_key: bool = True) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=clerk.url) as client:
        return await client.get(path, headers=make_bearer_header(SECRET_KEY) if with_key else {})


def check_against(specification: dict[str, Any], found: httpx2.Response, path: str) -> None:
    """Check that the specification allows the response at this path."""
    responses = specification["paths"][path]["get"]["responses"]
    response = responses[str(found.status_code)]
    if "$ref" in response:
        response = specification["components"]["responses"][response["$ref"].rpartition("/")[2]]
    schema = _convert_nullable(
        {**response["content"]["application/json"]["schema"], "components": specification["components"]}
    )
    errors = [f"{e.json_path}: {e.message}" for e in Draft202012Validator(schema).iter_errors(found.json())]
    assert not errors, errors


async def test_the_response_with_a_user_is_as_specified(clerk: ClerkStub, specification: dict[str, Any]) -> None:
    clerk.add_user("user_1", **make_email_fields("a"))
    clerk.add_user("user_2")
    for user in ("user_1", "user_2"):
        found = await get_from_stub(clerk, f"/v1/users/{user}")
        assert found.status_code == 200
        check_against(specification, found, "/users/{user_id}")


async def test_the_response_with_a_list_of_users_is_as_specified(
    clerk: ClerkStub, specification: dict[str, Any]
) -> None:
    for user in ("user_1", "user_2", "user_3"):
        clerk.add_user(user, **make_email_fields(user))
    found = await get_from_stub(clerk, "/v1/users?user_id=user_3&user_id=user_1&user_id=user_9&limit=100")
    assert [user["id"] for user in found.json()] == ["user_3", "user_1"]
    check_against(specification, found, "/users")


async def test_pages_of_users_are_as_specified(clerk: ClerkStub, specification: dict[str, Any]) -> None:
    """The cursor needs the order of creation, and excludes an offset."""
    for n in range(5):
        clerk.add_user(f"user_{n}", created_at=T0 + n)
    found = await get_from_stub(clerk, "/v1/users?order_by=created_at&limit=2&starting_after=user_1")
    assert [user["id"] for user in found.json()] == ["user_2", "user_3"]
    found = await get_from_stub(clerk, f"/v1/users?order_by=created_at&created_at_after={T0 + 3}")
    assert [user["id"] for user in found.json()] == ["user_4"]
    for wrong in ("starting_after=user_1&order_by=-updated_at", "starting_after=user_1&offset=1", "limit=501"):
        refused = await get_from_stub(clerk, f"/v1/users?{wrong}")
        assert refused.status_code == 422
        check_against(specification, refused, "/users")
    count = await get_from_stub(clerk, "/v1/users/count")
    assert count.json()["total_count"] == 5
    check_against(specification, count, "/users/count")


async def test_pages_of_organizations_and_memberships_are_as_specified(
    clerk: ClerkStub, specification: dict[str, Any]
) -> None:
    """Only organizations can be requested by their ID."""
    for n in range(3):
        clerk.add_organization(f"org_{n}", created_at=T0 + n)
        clerk.add_membership(f"orgmem_{n}", "org_1", f"user_{n}", created_at=T0 + n)
    for path, prefix in (("/organizations", "org"), ("/organization_memberships", "orgmem")):
        found = await get_from_stub(clerk, f"/v1{path}?order_by=-created_at&limit=2&offset=1")
        assert [one["id"] for one in found.json()["data"]] == [f"{prefix}_1", f"{prefix}_0"]
        assert found.json()["total_count"] == 3
        check_against(specification, found, path)
        refused = await get_from_stub(clerk, f"/v1{path}?order_by=-updated_at")
        assert refused.status_code == 422
        check_against(specification, refused, path)
    found = await get_from_stub(clerk, "/v1/organizations?organization_id=org_2&organization_id=org_9")
    assert [one["id"] for one in found.json()["data"]] == ["org_2"]


async def test_error_responses_are_as_specified(clerk: ClerkStub, specification: dict[str, Any]) -> None:
    unknown_user = await get_from_stub(clerk, "/v1/users/user_unknown")
    assert unknown_user.status_code == 404
    check_against(specification, unknown_user, "/users/{user_id}")
    without_key = await get_from_stub(clerk, "/v1/users/user_unknown", with_key=False)
    assert without_key.status_code == 401
    check_against(specification, without_key, "/users/{user_id}")


async def test_the_response_with_the_keys_is_as_specified(clerk: ClerkStub, specification: dict[str, Any]) -> None:
    found = await get_from_stub(clerk, "/v1/jwks")
    assert found.status_code == 200
    assert len(found.json()["keys"]) == 1
    check_against(specification, found, "/jwks")


async def test_the_check_detects_a_response_that_violates_the_specification(specification: dict[str, Any]) -> None:
    """A check that accepts every response would make the tests above worthless."""
    with pytest.raises(AssertionError, match="is a required property"):
        check_against(specification, httpx2.Response(200, json={"id": "user_1"}), "/users/{user_id}")
