"""OpenTelemetry traces: the caller's context is accepted, passed on to Clerk, and exported."""

import subprocess
import sys
from dataclasses import replace

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_service.settings import Settings
from sync_service.tracing import start_tracing
from sync_service.web.app import create_app
from tests.clerk_stub import API_TOKEN, ClerkStub, make_bearer_header
from tests.conftest import Output
from tests.sync_requests import build_settings
from tests.world import PATIENT_LIMITS, PII_SENTINEL, run_app

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


async def test_a_login_is_traced_from_its_caller_to_clerk(
    settings: Settings, clerk: ClerkStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collector gets both spans when the service stops. They have no value of the request."""
    exported: list[bytes] = []

    async def collect(request: Request) -> Response:
        exported.append(await request.body())
        return Response()

    clerk.add_user("user_1")
    headers = make_bearer_header(API_TOKEN) | {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01"}
    async with run_app(Starlette(routes=[Route("/v1/traces", collect, methods=["POST"])])) as collector:
        monkeypatch.setenv(ENDPOINT, collector)
        app = create_app(
            replace(settings, **build_settings(clerk)), PATIENT_LIMITS, start_tracing({ENDPOINT: collector})
        )
        async with run_app(app) as url, httpx2.AsyncClient(base_url=url, headers=headers) as client:
            assert (await client.post("/sync", json={"user_id": "user_1"})).json()["outcome"] == "created"
            assert (await client.get("/healthz")).status_code == 200
    spans = read_spans(exported)
    assert spans.keys() == {"POST /sync", "Clerk"}
    login, call = spans["POST /sync"], spans["Clerk"]
    assert (login.trace_id.hex(), login.parent_span_id.hex()) == (TRACE_ID, SPAN_ID)
    assert (call.trace_id, call.parent_span_id) == (login.trace_id, login.span_id)
    assert clerk.traces == [f"00-{TRACE_ID}-{call.span_id.hex()}-01"]
    assert b"user_1" not in b"".join(exported)
    assert PII_SENTINEL.encode() not in b"".join(exported)


def read_spans(exported: list[bytes]) -> dict[str, Span]:
    """Return the spans in requests to the collector, by name."""
    return {
        span.name: span
        for body in exported
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }


def test_without_a_collector_nothing_is_imported() -> None:
    """The start of the service does not grow: it imports no module of OpenTelemetry, although the extra is there."""
    code = (
        "import sys; from sync_service.web import app; from sync_service.tracing import start_tracing;"
        "print(start_tracing({}), [name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "None []\n"


def test_a_missing_extra_is_logged_and_stops_no_start(monkeypatch: pytest.MonkeyPatch, output: Output) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert start_tracing({ENDPOINT: "http://127.0.0.1:1"}) is None
    [line] = output.log("tracing_disabled")
    assert (line["setting"], "sync-service[otel]" in line["hint"]) == (ENDPOINT, True)
