"""`send`: sign an event as Svix does, post it, and print the response."""

import argparse
import json
import re
import secrets
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sync_service import parsers
from sync_service.clerk.entities import ENTITY_BY_TYPE, USER
from sync_service.clerk.event_types import find_intended_type
from sync_service.clerk.sample_events import build_sample_event
from sync_service.cli.arguments import Commands, add_json_option, make_argument_parser, parse_count, parse_id
from sync_service.cli.global_options import FILE_COMPLETION
from sync_service.cli.network_errors import explain_network_error
from sync_service.dev.state import load_settings
from sync_service.errors import SettingsError, SyncError
from sync_service.terminal import print_text

SEND_TIMEOUT = 15  # Svix waits as long for a response


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("send", help="sign a Clerk event with the configured secret and post it")
    parser.add_argument(
        "type", metavar="TYPE", type=parse_type, help="user.created, user.updated, user.deleted, or any other"
    )
    parser.add_argument(
        "--user",
        metavar="ID",
        type=parse_id,
        help="the Clerk ID of the user, or of the object's user; default: a new one",
    )
    data = parser.add_argument(
        "--data", metavar="FILE", help="JSON file: fields of Clerk's object, or a whole event; - reads standard input"
    )
    data.complete = FILE_COMPLETION  # type: ignore[attr-defined]  # shtab reads it
    parser.add_argument("--id", metavar="MSG", type=parse_id, help="the svix-id; default: a new one")
    parser.add_argument(
        "--url",
        type=make_argument_parser(parsers.parse_url),
        help="the webhook URL; default: the service on this machine, on PORT",
    )
    parser.add_argument("--count", metavar="N", type=parse_count, default=1, help="number of events (1)")
    add_json_option(parser)
    parser.set_defaults(run=run)


def parse_type(text: str) -> str:
    """Return an event type. Raises `ArgumentTypeError`, which asks about a misspelt type."""
    if not re.fullmatch(r"[\w.:-]{1,128}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an event type; write user.created")
    if intended := find_intended_type(text):
        raise argparse.ArgumentTypeError(f"Clerk has no type {text!r}. Did you mean {intended}?")
    return text


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Send the events; return 0 if every response is 2xx, otherwise 1."""
    # Imported here: no other command needs them.
    import httpx2  # noqa: PLC0415
    from standardwebhooks.webhooks import Webhook  # noqa: PLC0415

    settings = load_settings(environ, "CLERK_WEBHOOK_SIGNING_SECRET")
    url = arguments.url or f"http://127.0.0.1:{settings.port}/webhooks/clerk"
    data = _read_data(arguments)
    key = Webhook(settings.clerk_webhook_signing_secrets[0])
    failed = 0
    with httpx2.Client(timeout=SEND_TIMEOUT) as client:
        for number in range(arguments.count):
            body = _create_body(arguments, data, number)
            message_id = arguments.id or f"msg_{secrets.token_hex(12)}"
            now = datetime.now(UTC)
            headers = {
                "content-type": "application/json",
                "svix-id": message_id,
                "svix-timestamp": str(int(now.timestamp())),
                "svix-signature": key.sign(message_id, now, body),
            }
            try:
                response = client.post(url, content=body.encode(), headers=headers)
            except httpx2.InvalidURL:
                raise SettingsError([f"--url: {url} is not a valid URL"]) from None
            except httpx2.HTTPError as error:
                raise SyncError(
                    f"No response from {url}: {explain_network_error(error)}. Start the service with"
                    f" `sync-service dev`, or give another URL with --url."
                ) from error
            failed += not response.is_success
            _print_response(arguments, message_id, response.status_code, response.text)
    return 1 if failed else 0


def _create_body(arguments: argparse.Namespace, data: str | dict[str, Any] | None, number: int) -> str:
    """Return the text of the event to send."""
    if isinstance(data, str):
        return data
    fields = data or {}
    is_of_user = ENTITY_BY_TYPE.get(arguments.type, USER) is USER
    given_id = fields.get("id" if is_of_user else "user_id")
    user_id = arguments.user or given_id or f"user_{secrets.token_hex(12)}"
    event = build_sample_event(arguments.type, user_id, milliseconds=time.time_ns() // 1_000_000, number=number)
    event["data"] |= fields | ({"id": user_id} if is_of_user else {})
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False)


def _read_data(arguments: argparse.Namespace) -> str | dict[str, Any] | None:
    """Return the unchanged text of a whole event, or the fields of an object. Raises `SettingsError`."""
    file: str | None = arguments.data
    if file is None:
        return None
    try:
        # Without the byte order mark that editors on Windows write.
        text = (sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")).removeprefix("\ufeff")
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise SettingsError([f"--data: {file} is not JSON: {error}"]) from None
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError([f"--data: {file} cannot be read as JSON ({type(error).__name__})"]) from None
    if not isinstance(data, dict):
        raise SettingsError([f"--data: {file} does not contain a JSON object"])
    if data.get("object") != "event" and "type" not in data:
        return data
    if data.get("type") != arguments.type:
        raise SettingsError([f"--data: {file} contains an event of another type than {arguments.type}"])
    if arguments.user:
        raise SettingsError(["--user: cannot be used, because --data contains a whole event"])
    return text


def _print_response(arguments: argparse.Namespace, message_id: str, status: int, text: str) -> None:
    if arguments.json:
        try:
            content = json.loads(text)
        except ValueError:
            content = text
        print(json.dumps({"svix_id": message_id, "status": status, "answer": content}))
    else:
        print_text(f"{status} {text}  {message_id}")
