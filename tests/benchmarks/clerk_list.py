"""A stand-in of Clerk's list of users, in a process of its own: real-sized users, rendered from a template.

The number of users is the first part of the path, so that one process serves lists of any size. A page costs about a
microsecond for each user, so that the cores are left to the measured processes.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from sync_service.process import die_with_parent
from tests.benchmarks.bodies import make_body
from tests.world import INSTANCE

# Clerk's IDs begin with the time, so their order is that of the creation. The hexadecimal number is this part here.
ID_FORMAT = "user_2%07x%019x"
NUMBER = slice(6, 13)
_SCATTER = 0x9E3779B97F4A7C15F39CC0605CEDC835
_BITS = 19 * 4

FIRST_MS = 1_600_000_000_000
STEP_MS = 60_000


def make_id(number: int) -> str:
    """Return the ID of a user of the list."""
    return ID_FORMAT % (number, number * _SCATTER % (1 << _BITS))


def _make_template() -> bytes:
    """Return a user's JSON as a format of bytes. Its ID, its email, its picture and its times differ for each user."""
    event = json.loads(make_body("user.updated", "user_LOCAL", FIRST_MS))
    user = event["data"] | {"id": "ID", "created_at": "AT", "updated_at": "AT", "public_metadata": _METADATA}
    user["email_addresses"][0]["email_address"] = "EMAIL@example.com"
    user["image_url"] = f"https://img.example.com/{'x' * 150}EMAIL"
    text = json.dumps(user, separators=(",", ":")).replace("%", "%%")
    for name, form in {"ID": "%(id)b", "EMAIL": "%(local)b", '"AT"': "%(at)d"}.items():
        text = text.replace(name, form)
    return text.encode()


_METADATA = {"plan": "pro", "locale": "en-GB", "onboarded": True}
_TEMPLATE = _make_template()


def render_user(number: int) -> bytes:
    """Return the JSON of a user."""
    clerk_id = make_id(number).encode()
    return _TEMPLATE % {b"id": clerk_id, b"local": clerk_id[12:], b"at": FIRST_MS + number * STEP_MS}


def render_page(count: int, query: dict[str, list[str]]) -> bytes:
    """Return the JSON of a page out of a list of `count` users."""
    return b"[" + b",".join(map(render_user, _select(count, query))) + b"]"


def _select(count: int, query: dict[str, list[str]]) -> range | list[int]:
    """Return the numbers of the users on a page."""
    if wanted := query.get("user_id"):
        return [n for n in (int(i[NUMBER], 16) for i in wanted) if n < count and make_id(n) in wanted]
    first = 0
    if after := query.get("created_at_after"):
        first = max((int(after[0]) - FIRST_MS) // STEP_MS + 1, 0)
    if cursor := query.get("starting_after"):
        first = int(cursor[0][NUMBER], 16) + 1
    return range(first, min(first + int(query["limit"][0]), count))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet for head and body

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        count, _, route = url.path.removeprefix("/").partition("/v1/")
        match route:
            case "users":
                body = render_page(int(count), parse_qs(url.query))
            case "jwks":
                body = json.dumps({"keys": [{"kid": INSTANCE}]}).encode()
            case "users/count":
                body = json.dumps({"total_count": int(count)}).encode()
            case _:
                body = b"{}"
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write no log."""


def main() -> None:
    """Serve on the port of the first argument."""
    die_with_parent()
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Handler).serve_forever()


if __name__ == "__main__":
    main()
