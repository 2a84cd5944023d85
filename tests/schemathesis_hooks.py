"""Hooks of schemathesis: they sign each generated webhook as Svix does, and name known users and events."""

import itertools
import json
import os
from typing import Any

import schemathesis

from tests.world import sign_event

KNOWN_IDS = {"id": "msg_known", "clerk_id": "user_1"}

_numbers = itertools.count()


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    """Most requests have a correct token and name a known user. The body of a webhook gets its signature."""
    number = next(_numbers)
    if case.path.startswith("/ops"):  # ten wrong tokens would lock the caller out
        case.headers["Authorization"] = f"Bearer {os.environ['OPS_TOKEN']}"
    elif number % 8:
        case.headers["Authorization"] = f"Bearer {os.environ['API_TOKEN']}"
    if number % 2 and isinstance(case.body, dict) and case.body.get("user_id"):
        case.body["user_id"] = "user_1"
    for name, known in KNOWN_IDS.items():
        if number % 2 and name in (case.path_parameters or {}):
            case.path_parameters[name] = known
    if case.path != "/webhooks/clerk" or not isinstance(case.body, dict | list | str | int | float | bool):
        return
    if {"svix-id", "svix-timestamp", "svix-signature"} <= set(case.headers):
        body = json.dumps(case.body, ensure_ascii=False).encode("utf-8", "replace")
        case.body = body
        case.headers.update(sign_event(body, f"msg_{next(_numbers)}"))
