"""HTML from the packaged templates, and the headers that keep each page to itself."""

import base64
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from importlib.resources import files
from typing import Any

from msgspec import Raw, Struct
from starlette.responses import Response

from sync_service.clerk.masking import mask
from sync_service.store.events import decode_json
from sync_service.store.remedies import find_remedy

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


class View(Struct, frozen=True):
    """A page before it is rendered: its template, the variables, the status and further headers."""

    template: str
    variables: dict[str, Any] = {}
    status: int = 200
    headers: Mapping[str, str] = {}


class Renderer:
    """Renders views. Style and script are part of each page, so that no other file needs to be public."""

    def __init__(self) -> None:
        # Only a service with SYNC_OPS_TOKEN needs the memory and the time of this import.
        from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415
        from markupsafe import Markup  # noqa: PLC0415

        loader = PackageLoader("sync_service.web.ops.page")
        environment = Environment(
            loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        folder = files(__package__).joinpath("templates")
        style, script = (folder.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
        environment.globals |= {"style": Markup(style), "script": Markup(script)}  # noqa: S704  the package's own files
        environment.filters |= FILTERS
        # Compiling takes a quarter of a second, in which a request would keep all others waiting.
        self._templates = {name: environment.get_template(name) for name in loader.list_templates() if "html" in name}
        self._headers = {
            "Content-Security-Policy": f"default-src 'none'; style-src {_create_hash(style)};"
            f" script-src {_create_hash(script)}; img-src data:; form-action 'self'; base-uri 'none';"
            " frame-ancestors 'none'",
            "Referrer-Policy": "no-referrer",
        }

    def render(self, view: View, csrf_token: str = "") -> Response:
        """Return the page. Each of its forms has the CSRF token."""
        html = self._templates[view.template].render(view.variables, csrf_token=csrf_token, now=datetime.now(UTC))
        return Response(html, view.status, {**self._headers, **view.headers}, "text/html")


def _create_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"


def _decode(raw: Raw) -> Any:
    return decode_json(bytes(raw).decode())


def format_duration(seconds: float) -> str:
    """Return a duration in one unit, such as `3 min`."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


FILTERS: dict[str, Callable[..., Any]] = {
    "decode": lambda raw, is_masked: mask(_decode(raw)) if is_masked else _decode(raw),
    "duration": format_duration,
    "json": lambda value, indent=None: json.dumps(value, indent=indent, ensure_ascii=False),
    "number": "{:,}".format,
    "remedy": lambda reason: find_remedy(reason or ""),
    "text": lambda raw: bytes(raw).decode(),
}
