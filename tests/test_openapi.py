"""GET /openapi.json: the document is valid and complete, and each response is as it says."""

import asyncio
import json
import os
import re
import sys
from argparse import Namespace
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from sync_service.cli.openapi import run as print_document
from sync_service.settings import Settings
from sync_service.web.app import create_app
from sync_service.web.middleware import RequestLogMiddleware
from sync_service.web.ops.routes import OpsHeaders
from sync_service.web.routes import OPERATIONS, encode_description
from tests.clerk_stub import API_TOKEN, ClerkStub
from tests.conftest import Output, Serve
from tests.sync_requests import build_settings
from tests.world import World, make_event

ROOT = Path(__file__).resolve().parents[1]

DOCUMENT: dict[str, Any] = json.loads(encode_description())

OPS_TOKEN = "SECRET_SENTINEL_of_the_operators"

# Any 5xx that the document does not name fails `status_code_conformance`. A token is checked before the other
# parameters, and a value that is not in an enumeration is not always refused.
CHECKS = "status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance"


@pytest.fixture
async def world(serve: Serve, clerk: ClerkStub) -> AsyncIterator[World]:
    """The service, which may ask the stub about a user."""
    clerk.add_user("user_1")
    async with serve(**build_settings(clerk, sync_ops_token=OPS_TOKEN)) as running:
        yield running


async def test_each_response_to_generated_requests_is_in_the_document(world: World, tmp_path: Path) -> None:
    """Schemathesis sends valid and invalid requests to each operation; webhooks are signed."""
    await world.deliver_ok(make_event("user.created", "user_1"), "msg_known")
    document = tmp_path / "openapi.json"
    document.write_bytes((await world.client.get("/openapi.json")).content)
    arguments = (
        *("-m", "schemathesis.cli", "run", str(document), "--url", str(world.client.base_url)),
        *("--checks", CHECKS, "--phases", "coverage,fuzzing", "--max-examples", "5"),
        *("--seed", "1", "--generation-deterministic", "--no-shrink", "--no-color"),
    )
    environ = os.environ | {
        "API_TOKEN": API_TOKEN,
        "OPS_TOKEN": OPS_TOKEN,
        "SCHEMATHESIS_HOOKS": "tests.schemathesis_hooks",
        "PYTHONPATH": str(ROOT),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=tmp_path,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    report, _ = await process.communicate()
    assert process.returncode == 0, report.decode()
    tested = re.search(r"Operations: +(\d+) selected", report.decode())
    assert tested, report.decode()
    assert int(tested[1]) == len(OPERATIONS), report.decode()


def test_the_document_has_every_route_and_method(settings: Settings) -> None:
    """The routes under /ops are made from their descriptions; the operators' page is not part of the document."""
    app = create_app(settings)
    assert isinstance(app, RequestLogMiddleware)
    assert isinstance(app.app, OpsHeaders)
    assert isinstance(app.app.app, Starlette)
    routes = {
        (route.path, method)
        for route in app.app.app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = {(operation.path, operation.method) for operation in OPERATIONS}
    assert {(path, method) for path, method in described if not path.startswith("/ops")} == routes


def test_statuses_are_explicit_and_secured_routes_name_their_tokens() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for described in methods.values():
            assert all(re.fullmatch(r"[1-5]\d\d", status) for status in described["responses"])
            assert bool(described["security"]) == path.startswith(("/sync", "/users", "/ops", "/changes"))
            assert ("401" in described["responses"]) == bool(described["security"])


def test_the_command_prints_the_served_document(output: Output) -> None:
    assert print_document(Namespace(), {}) == 0
    assert json.loads(output.read()) == DOCUMENT
