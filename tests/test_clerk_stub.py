"""The stand-in for Clerk answers as Clerk's own specification says."""

from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.clerk_stub import SECRET_KEY, ClerkStub, make_bearer_header
from tests.world import make_email_fields

SPECIFICATION = "backend-api-2026-05-12.yml"


def _nulls(schema: Any) -> Any:
    """Return a schema of OpenAPI 3.0 as JSON Schema: `nullable` is a word of its own there."""
    if isinstance(schema, list):
        return [_nulls(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    said = {name: _nulls(value) for name, value in schema.items() if name != "nullable"}
    return {"anyOf": [said, {"type": "null"}]} if schema.get("nullable") is True else said


@pytest.fixture(scope="session")
def specification(shared: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load((shared / SPECIFICATION).read_text(), Loader=yaml.CSafeLoader)
    return loaded


async def answer(clerk: ClerkStub, path: str, *, with_key: bool = True) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=clerk.url) as client:
        return await client.get(path, headers=make_bearer_header(SECRET_KEY) if with_key else {})


def hold(specification: dict[str, Any], found: httpx2.Response, path: str) -> None:
    """Assert that the specification has such an answer at that path."""
    responses = specification["paths"][path]["get"]["responses"]
    response = responses[str(found.status_code)]
    if "$ref" in response:
        response = specification["components"]["responses"][response["$ref"].rpartition("/")[2]]
    schema = _nulls({**response["content"]["application/json"]["schema"], "components": specification["components"]})
    errors = [f"{e.json_path}: {e.message}" for e in Draft202012Validator(schema).iter_errors(found.json())]
    assert not errors, errors


async def test_a_user_is_answered_as_specified(clerk: ClerkStub, specification: dict[str, Any]) -> None:
    clerk.add_user("user_1", **make_email_fields("a"))
    clerk.add_user("user_2")
    for user in ("user_1", "user_2"):
        found = await answer(clerk, f"/v1/users/{user}")
        assert found.status_code == 200
        hold(specification, found, "/users/{user_id}")


async def test_a_list_of_users_is_answered_as_specified(clerk: ClerkStub, specification: dict[str, Any]) -> None:
    for user in ("user_1", "user_2", "user_3"):
        clerk.add_user(user, **make_email_fields(user))
    found = await answer(clerk, "/v1/users?user_id=user_3&user_id=user_1&user_id=user_9&limit=100")
    assert [user["id"] for user in found.json()] == ["user_1", "user_3"]
    hold(specification, found, "/users")


async def test_errors_are_answered_as_specified(clerk: ClerkStub, specification: dict[str, Any]) -> None:
    missing = await answer(clerk, "/v1/users/user_nobody")
    assert missing.status_code == 404
    hold(specification, missing, "/users/{user_id}")
    keyless = await answer(clerk, "/v1/users/user_nobody", with_key=False)
    assert keyless.status_code == 401
    hold(specification, keyless, "/users/{user_id}")


async def test_keys_are_answered_as_specified(clerk: ClerkStub, specification: dict[str, Any]) -> None:
    found = await answer(clerk, "/v1/jwks")
    assert found.status_code == 200
    assert len(found.json()["keys"]) == 1
    hold(specification, found, "/jwks")


async def test_the_specification_refuses_what_it_should(specification: dict[str, Any]) -> None:
    """Else the tests above would show nothing."""
    with pytest.raises(AssertionError, match="is a required property"):
        hold(specification, httpx2.Response(200, json={"id": "user_1"}), "/users/{user_id}")
