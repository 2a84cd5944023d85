"""`send`: signs an event as Svix would, posts it, and shows the answer."""

import argparse
import json
import secrets
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sync_service.clerk.samples import sample_event
from sync_service.cli.local import settings_or_dev
from sync_service.cli.types import Commands
from sync_service.errors import SettingsError, SyncError

SECONDS = 15  # as long as Svix waits


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("send", help="sign an event of Clerk with the configured secret and post it")
    parser.add_argument("type", metavar="TYPE", help="user.created, user.updated, user.deleted, or any other")
    parser.add_argument("--user", metavar="ID", help="the user's Clerk ID; a new one if left out")
    parser.add_argument(
        "--data", metavar="FILE", help="JSON: fields of Clerk's user, or a whole event; - is standard input"
    )
    parser.add_argument("--id", metavar="MSG", help="the svix-id; a new one if left out")
    parser.add_argument("--url", help="where to; the service on this machine, on PORT, if left out")
    parser.add_argument("--count", metavar="N", type=_count, default=1, help="how many events")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each answer")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Send, and return 0 when every answer was 2xx."""
    # Here, for they take half a second that no other command should pay.
    import httpx2  # noqa: PLC0415
    from svix.webhooks import Webhook  # noqa: PLC0415

    settings = settings_or_dev(environ, "CLERK_WEBHOOK_SIGNING_SECRET")
    url = arguments.url or f"http://127.0.0.1:{settings.port}/webhooks/clerk"
    given = _given(arguments.data)
    key = Webhook(settings.clerk_webhook_signing_secrets[0])
    refused = 0
    with httpx2.Client(timeout=SECONDS) as client:
        for number in range(arguments.count):
            body = _body(arguments, given, number)
            message_id = arguments.id or f"msg_{secrets.token_hex(12)}"
            now = datetime.now(UTC)
            headers = {
                "content-type": "application/json",
                "svix-id": message_id,
                "svix-timestamp": str(int(now.timestamp())),
                "svix-signature": key.sign(message_id, now, body),
            }
            try:
                answer = client.post(url, content=body.encode(), headers=headers)
            except httpx2.InvalidURL:
                raise SettingsError([f"--url: {url} is not an address"]) from None
            except httpx2.HTTPError as error:
                raise SyncError(
                    f"No answer from {url} ({type(error).__name__}). Start the service with `sync-service dev`,"
                    " or name another address with --url."
                ) from error
            refused += not answer.is_success
            _show(arguments, message_id, answer.status_code, answer.text)
    return 1 if refused else 0


def _body(arguments: argparse.Namespace, given: str | dict[str, Any] | None, number: int) -> str:
    """Return the event's exact text."""
    if isinstance(given, str):
        return given
    user_id = arguments.user or (given or {}).get("id") or f"user_{secrets.token_hex(12)}"
    event = sample_event(arguments.type, user_id, milliseconds=time.time_ns() // 1_000_000, number=number)
    event["data"] |= (given or {}) | {"id": user_id}
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False)


def _given(file: str | None) -> str | dict[str, Any] | None:
    """Return the text of a whole event as it is, to the byte; or the fields of a user."""
    if file is None:
        return None
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        given = json.loads(text)
    except (OSError, ValueError) as error:
        raise SettingsError([f"--data: {file} cannot be read as JSON ({type(error).__name__})"]) from None
    if not isinstance(given, dict):
        raise SettingsError([f"--data: {file} holds no JSON object"])
    return text if given.get("object") == "event" or "type" in given else given


def _show(arguments: argparse.Namespace, message_id: str, status: int, text: str) -> None:
    if arguments.json:
        try:
            answer = json.loads(text)
        except ValueError:
            answer = text
        print(json.dumps({"svix_id": message_id, "status": status, "answer": answer}))
    else:
        print(f"{status} {text}  {message_id}")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number
