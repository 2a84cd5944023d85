"""A stand-in for Clerk's API on a port of its own: what it is told to know, by HTTP."""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

KEY = "sk_test_SECRET_SENTINEL"


@dataclass
class Clerk:
    """`instance` is the one of the key and of the session tokens; `users` are the IDs that it knows."""

    instance: str
    url: str = ""
    users: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def standing_in(instance: str) -> Iterator[Clerk]:
    """Answer as Clerk does for the length of the block."""
    clerk = Clerk(instance)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            clerk.asked.append(parts.path)
            if parts.path.startswith("/v1/") and self.headers.get("authorization") != f"Bearer {KEY}":
                self.answer(401, {"errors": [{"code": "clerk_key_invalid"}]})
            elif parts.path in {"/v1/jwks", "/.well-known/jwks.json"}:
                self.answer(200, {"keys": [{"kid": clerk.instance, "kty": "RSA", "n": "", "e": "AQAB"}]})
            else:
                wanted = parse_qs(parts.query).get("user_id", [])
                self.answer(200, [{"id": user_id} for user_id in wanted if user_id in clerk.users])

        def answer(self, status: int, body: object) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        clerk.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield clerk
        finally:
            server.shutdown()
            thread.join()
