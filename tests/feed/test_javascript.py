"""The packages `standardwebhooks` and `svix` for JavaScript accept our signatures, and refuse others."""

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sync_service.store.deliveries import Notification
from sync_service.store.feed import FeedEntry, FeedPosition
from sync_service.sync.notification import build_body, make_id, sign
from tests.feed.receiver import NOTIFY_SECRET, OLDER_NOTIFY_SECRET
from tests.tools import require_javascript_packages

SCRIPT = Path(__file__).resolve().parents[1] / "javascript" / "verify.mjs"
NOW = datetime.now(UTC)


def sign_one(at: datetime = NOW) -> dict[str, Any]:
    """Return a notification with characters outside of ASCII, a number that JavaScript rounds, and two signatures."""
    entry = FeedEntry(FeedPosition(8123, 17), "user.updated", "user_1", str(2**63 - 1), ["name"], NOW)
    notification = Notification(entry, 0, '{"name": "Zoë 👩‍🚀 \\u2028"}', is_deleted=False)
    body = build_body(notification)
    headers = dict(sign(make_id(notification), body, at, (NOTIFY_SECRET, OLDER_NOTIFY_SECRET)))
    return {"secret": NOTIFY_SECRET, "body": body, "headers": headers}


def test_both_packages_accept_a_notification_by_each_secret_and_refuse_forged_ones() -> None:
    """A changed body, another ID, another secret and an old time are refused."""
    one, old = sign_one(), sign_one(NOW - timedelta(hours=1))
    other = "whsec_" + "b3RoZXI" * 6
    messages = [
        one,
        one | {"secret": OLDER_NOTIFY_SECRET},
        one | {"body": one["body"] + " "},
        one | {"headers": one["headers"] | {"webhook-id": "chg_8123-18"}},
        one | {"secret": other},
        old,
    ]
    node, packages = require_javascript_packages()
    done = subprocess.run(
        [node, SCRIPT, packages], input=json.dumps(messages), capture_output=True, text=True, check=True
    )
    accepted, by_older, *refused = json.loads(done.stdout)
    assert accepted == by_older == ["chg_8123-17"] * 2
    assert refused == [["No matching signature found"] * 2] * 3 + [["Message timestamp too old"] * 2]
