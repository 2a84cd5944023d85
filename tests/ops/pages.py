"""An operator's browser without JavaScript: pages, their forms, cookies."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import httpx2

from tests.ops.conftest import OPS_TOKEN, OpsWorld

# The directives of each page's policy; style and script have a hash instead of their own URL.
POLICY = re.compile(
    r"default-src 'none'; style-src 'sha256-[^' ]+'; script-src 'sha256-[^' ]+'; img-src data:;"
    r" form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@dataclass
class Form:
    """A form with the label of its button."""

    method: str
    action: str
    fields: dict[str, str] = field(default_factory=dict)
    button: str = ""


class Page(HTMLParser):
    """A response as HTML."""

    def __init__(self, response: httpx2.Response) -> None:
        super().__init__()
        self.response = response
        self.status = response.status_code
        self.html = response.text
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.forms: list[Form] = []
        self.rows: list[list[str]] = []
        self._texts: list[str] = []
        self._path: list[str] = []
        self.feed(response.text)
        self.text = " ".join(" ".join(self._texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append((tag, given))
        self._path.append(tag)
        if tag == "form":
            self.forms.append(Form(given["method"], given["action"]))
        elif tag in {"input", "select"} and (given.get("type") != "checkbox" or "checked" in given):
            self.forms[-1].fields[given["name"]] = given.get("value", "")
        elif tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._path and self._path.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._path[-1:] == ["button"]:
            self.forms[-1].button += data.strip()
        if not {"style", "script"} & set(self._path):
            self._texts.append(data)
        if {"td", "th"} & set(self._path):
            self.rows[-1][-1] = (self.rows[-1][-1] + data).strip()

    def find_form(self, button: str) -> Form:
        """Return the first form with a button of this name."""
        return next(form for form in self.forms if form.button == button)

    def has_password_field(self) -> bool:
        return any(tag == "input" and attributes.get("type") == "password" for tag, attributes in self.tags)


@dataclass
class Browser:
    """A browser's requests to the page. Each response has the headers that keep it to itself."""

    world: OpsWorld
    cookies: dict[str, str] = field(default_factory=dict)

    async def open(self, path: str, method: str = "GET", **options: Any) -> Page:
        """Return a page. A redirect is followed, as a browser does."""
        headers = {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        response = await self.world.client.request(method, path, headers=headers, **options)
        self.cookies |= dict(response.cookies)
        if 'sync_service_ops="";' in response.headers.get("set-cookie", ""):
            self.cookies.clear()
        self.world.client.cookies.clear()
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"
        if response.status_code == 303:
            return await self.open(response.headers["location"])
        assert POLICY.fullmatch(response.headers["content-security-policy"])
        assert response.headers["referrer-policy"] == "no-referrer"
        return Page(response)

    async def submit(self, page: Page, button: str, **changes: str) -> Page:
        """Return the page after a click on a button, with some fields filled in."""
        form = page.find_form(button)
        return await self.open(form.action, form.method.upper(), data=form.fields | changes)

    async def log_in(self, token: str = OPS_TOKEN) -> Page:
        return await self.submit(await self.open("/ops"), "Log in", token=token)
