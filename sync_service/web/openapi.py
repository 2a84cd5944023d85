"""GET /openapi.json: the description of the HTTP interface as OpenAPI 3.1, from the operations and their types.

https://spec.openapis.org/oas/v3.1.1.html
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Any

import msgspec

from sync_service.errors import ClerkUnavailable, DatabaseError
from sync_service.web.operation import Operation, Parameter, ResponseBody, RouteError
from sync_service.web.problems import Problem

OPENAPI = Operation(
    method="GET",
    path="/openapi.json",
    summary="This description.",
    responses={200: ResponseBody("The document", dict[str, Any])},
)

_SECURITY_SCHEMES = {
    "serviceToken": "SYNC_API_TOKEN, the token of the app's backend",
    "sessionToken": "A session token of Clerk, of the user who signs in",
    "opsToken": "SYNC_OPS_TOKEN, the token of the operators",
}


def describe_interface(operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the OpenAPI document of these operations."""
    operations = tuple(operations)
    types = list(dict.fromkeys(_list_types(operations)))
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schema_of = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for operation in operations:
        # Starlette's type of a parameter, as in {id:path}, has no counterpart.
        path = re.sub(r":\w+}", "}", operation.path)
        paths[path][operation.method.lower()] = _describe_operation(operation, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sync-service",
            "version": version("sync-service"),
            "summary": "Keeps an application's own PostgreSQL users table in sync with Clerk.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                name: {"type": "http", "scheme": "bearer", "description": text}
                for name, text in _SECURITY_SCHEMES.items()
            },
        },
    }


def _list_types(operations: Iterable[Operation]) -> Iterator[Any]:
    yield Problem
    for operation in operations:
        yield from (parameter.type for parameter in operation.parameters)
        yield from (variant for response in operation.responses.values() for variant in response.variants)
        if operation.body is not None:
            yield operation.body


def _describe_operation(operation: Operation, schema_of: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": _create_operation_id(operation),
        "parameters": [_describe_parameter(parameter, schema_of) for parameter in operation.parameters],
        "responses": {
            **{
                str(status): _describe_response(response, schema_of) for status, response in operation.responses.items()
            },
            **_describe_errors(operation.errors),
        },
        "security": [{scheme: []} for scheme in operation.security],
    }
    if operation.body is not None:
        content = {"application/json": {"schema": schema_of[operation.body]}}
        described["requestBody"] = {"required": operation.body_required, "content": content}
    return described


def _create_operation_id(operation: Operation) -> str:
    return "_".join([operation.method.lower(), *re.findall(r"\w+", operation.path)])


def _describe_parameter(parameter: Parameter, schema_of: dict[Any, Any]) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "required": parameter.required or parameter.place == "path",
        "schema": schema_of[parameter.type],
    }


def _describe_response(response: ResponseBody, schema_of: dict[Any, Any]) -> dict[str, Any]:
    schemas = [schema_of[variant] for variant in response.variants] or [{"type": "string"}]
    schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    return {"description": response.description, "content": {response.media_type: {"schema": schema}}}


def _describe_errors(errors: Iterable[RouteError]) -> dict[str, Any]:
    """Return the response of each status; several errors may have the same."""
    codes: dict[int, dict[str, str]] = defaultdict(dict)
    for error in errors:
        status, code, title = describe_error(error)
        codes[status][code] = title
    responses: dict[str, Any] = {}
    for status, titles in sorted(codes.items()):
        code_schema = {"type": "object", "properties": {"code": {"enum": list(titles)}, "status": {"const": status}}}
        schema = {"allOf": [{"$ref": "#/components/schemas/Problem"}, code_schema]}
        description = "; ".join(f"`{code}`: {title}" for code, title in titles.items())
        responses[str(status)] = {
            "description": description,
            "content": {"application/problem+json": {"schema": schema}},
        }
        if status in {429, 503}:
            header = {"description": "Seconds until the next attempt", "required": True, "schema": {"type": "string"}}
            responses[str(status)]["headers"] = {"Retry-After": header}
    return responses


def describe_error(error: RouteError) -> tuple[int, str, str]:
    """Return the status, the code and the title of an error's response."""
    if issubclass(error, DatabaseError):
        return 503, "unavailable", "The database is not available"
    if issubclass(error, ClerkUnavailable):
        return 503, "clerk_unavailable", "Clerk is not available"
    return error.status, error.code, error.title
