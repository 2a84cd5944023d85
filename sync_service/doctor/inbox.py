"""How the inbox stands: silence, what failed, what waits (pure)."""

from collections.abc import Iterator

from sync_service.doctor.findings import Finding, told
from sync_service.postgres.counts import Inbox

DAY = 86_400

# Clerk tells of every sign-in: a week without a word is not a quiet week.
SILENCE_DAYS = 7

# Users who come by logins alone for a day prove that the webhooks do not arrive.
SILENCE_DAYS_WITH_LOGINS = 1

_LOOK = (
    "look at Clerk's dashboard, Configure, Webhooks: is the endpoint https://your.host/webhooks/clerk, is it enabled?",
    "are user.created, user.updated and user.deleted subscribed, and what was answered to its attempts?",
    "compare its signing secret with CLERK_WEBHOOK_SIGNING_SECRET; a proxy that writes the JSON anew breaks it too",
)


def inbox_findings(inbox: Inbox, secrets: int) -> Iterator[Finding]:
    """Yield what the inbox tells; `secrets` is how many signing secrets are set."""
    yield from _silence(inbox, secrets)
    if inbox.dead:
        yield Finding(
            code="dead_events",
            kind="wrong",
            what=f"dead events: {told(inbox.dead)}",
            why="They were tried as often as SYNC_MAX_ATTEMPTS says and are not applied; they wait for you.",
            run=("sync-service events list --status dead", "sync-service events replay --status dead"),
            data={"events": inbox.dead},
        )
    if inbox.failed:
        yield Finding(
            code="failed_events",
            kind="warning",
            what=f"parked events: {told(inbox.failed)}, the oldest for {_ago(inbox.oldest_failed_seconds or 0)}",
            why="The table refused them, or they are held back; they are tried again by themselves.",
            run=("sync-service events list --status failed",),
            data={"events": inbox.failed, "oldest_seconds": round(inbox.oldest_failed_seconds or 0)},
        )
    if inbox.addresses_wanted:
        yield Finding(
            code="addresses_wanted",
            kind="note",
            what=f"users who show no address, for another row has it: {told(inbox.addresses_wanted)}",
            why="Where that row's Clerk ID was never seen, it may be the same person of another instance; the address"
            " is given back once it is free.",
            data={"users": inbox.addresses_wanted},
        )
    yield Finding(
        code="inbox",
        kind="note",
        what=f"known users: {told(inbox.identities)}; the last event: {_last(inbox)}; the inbox takes"
        f" {inbox.bytes / 1_000_000:,.1f} MB",
        why="Payloads of finished events go after SYNC_EVENT_RETENTION.",
        data={
            "identities": inbox.identities,
            "seconds_since_last_event": _rounded(inbox.silent_seconds),
            "bytes": inbox.bytes,
            "failed": inbox.failed,
            "dead": inbox.dead,
        },
    )


def _silence(inbox: Inbox, secrets: int) -> Iterator[Finding]:
    silent = inbox.installed_seconds if inbox.silent_seconds is None else inbox.silent_seconds
    limit = SILENCE_DAYS_WITH_LOGINS if inbox.logins else SILENCE_DAYS
    if silent >= limit * DAY:
        never = "no webhook was ever accepted" if inbox.silent_seconds is None else "no webhook was accepted"
        meanwhile = f", while {told(inbox.logins)} users became known otherwise" if inbox.logins else ""
        yield Finding(
            code="webhook_silence",
            kind="wrong",
            what=f"{never} for {_ago(silent)}{meanwhile}",
            why="Clerk tells of every sign-in, so its webhooks do not arrive, or are refused: the rows grow stale and"
            " deletions are not done.",
            do=_LOOK,
            data={"seconds": round(silent), "ever": inbox.silent_seconds is not None, "logins": inbox.logins},
        )
    elif inbox.silent_seconds is None:
        several = (
            "one of the secrets in CLERK_WEBHOOK_SIGNING_SECRET" if secrets > 1 else "CLERK_WEBHOOK_SIGNING_SECRET"
        )
        yield Finding(
            code="no_webhook_yet",
            kind="note",
            what="no webhook was accepted yet",
            why=f"Whether {several} is that of Clerk's endpoint shows only when the first one is.",
            do=_LOOK,
        )


def _last(inbox: Inbox) -> str:
    return "never" if inbox.silent_seconds is None else f"{_ago(inbox.silent_seconds)} ago"


def _ago(seconds: float) -> str:
    for name, length in (("day", DAY), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            number = int(seconds // length)
            return f"{number} {name}{'s' if number > 1 else ''}"
    return "less than a minute"


def _rounded(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds)
