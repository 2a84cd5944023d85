"""OpenTelemetry traces, with the extra `otel`: spans of requests and of calls to Clerk, in the caller's trace.

The context is W3C's `traceparent`, https://www.w3.org/TR/trace-context/. A span has the route and the status, and no
value of a request. The libraries are imported only if a variable names a collector; they read the other variables of
OpenTelemetry themselves.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = structlog.get_logger()

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

# Probes and scrapes are many, and of no interest.
UNTRACED_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})

FLUSH_TIMEOUT_MS = 2000


class Tracing:
    """The spans of one process."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry.trace import SpanKind  # noqa: PLC0415  imported only with the extra
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415  as above

        self._provider = provider
        self._tracer = provider.get_tracer("sync_service")
        self._context = TraceContextTextMapPropagator()
        self._kinds = SpanKind

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """Return the app with a span for each request."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or scope["path"].rstrip("/") in UNTRACED_PATHS:
                await app(scope, receive, send)
                return
            caller = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
            with self._tracer.start_as_current_span(
                scope["method"], self._context.extract(caller), self._kinds.SERVER, record_exception=False
            ) as span:

                async def send_with_status(message: Message) -> None:
                    if message["type"] == "http.response.start":
                        span.set_attribute("http.response.status_code", message["status"])
                    await send(message)

                await app(scope, receive, send_with_status)
                if route := getattr(scope.get("route"), "path", None):
                    span.update_name(f"{scope['method']} {route}")
                    span.set_attributes({"http.request.method": scope["method"], "http.route": route})

        return serve

    @contextlib.contextmanager
    def trace_call(self, headers: MutableMapping[str, str]) -> Iterator[None]:
        """Trace a request to Clerk within the block; add the context to its headers."""
        with self._tracer.start_as_current_span("Clerk", kind=self._kinds.CLIENT, record_exception=False):
            self._context.inject(headers)
            yield

    async def flush(self) -> None:
        """Send the spans that wait, for two seconds at most."""
        await asyncio.to_thread(self._provider.force_flush, FLUSH_TIMEOUT_MS)


def start_tracing(environ: Mapping[str, str]) -> Tracing | None:
    """Return the tracing to the collector that a variable names; None without one, or without the extra."""
    names = [name for name in ENDPOINTS if environ.get(name)]
    if not names:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  as above
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  as above
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415  as above
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415  as above
    except ImportError:
        log.warning("tracing_disabled", setting=names[0], hint="install sync-service[otel], or unset the variable")
        return None
    service = {"service.name": environ.get("OTEL_SERVICE_NAME") or "sync-service"}
    provider = TracerProvider(resource=Resource.create(service))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)
