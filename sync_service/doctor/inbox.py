"""Checks of the inbox: missing webhooks, dead and parked events, pending emails (pure)."""

from collections.abc import Iterator

from sync_service.doctor.findings import Finding, format_count
from sync_service.doctor.inbox_counts import InboxCounts

DAY_SECONDS = 86_400

# Clerk sends an event at every sign-in, so a week without any event means that webhooks do not arrive.
MAX_SILENT_DAYS = 7

# If new users appear only through logins for a day, webhooks do not arrive.
MAX_SILENT_DAYS_WITH_NEW_USERS = 1

_WEBHOOK_STEPS = (
    "open Clerk's dashboard, Configure, Webhooks: the endpoint must be https://your.host/webhooks/clerk and enabled",
    "check that it is subscribed to user.created, user.updated and user.deleted, and read the responses it received",
    "compare its signing secret with CLERK_WEBHOOK_SIGNING_SECRET; a proxy that rewrites the JSON also breaks it",
)


def check_inbox(inbox: InboxCounts, secrets: int) -> Iterator[Finding]:
    """Yield the findings about events. `secrets` is the number of configured signing secrets."""
    yield from _check_silence(inbox, secrets)
    if inbox.dead:
        yield Finding(
            code="dead_events",
            kind="wrong",
            what=f"dead events: {format_count(inbox.dead)}",
            why="They failed as often as SYNC_MAX_ATTEMPTS allows. They are not applied, and sync-service does not try"
            " them again.",
            run=("sync-service events list --status dead", "sync-service events replay --status dead"),
            data={"events": inbox.dead},
        )
    if inbox.failed:
        oldest = format_duration(inbox.oldest_failed_seconds or 0)
        yield Finding(
            code="failed_events",
            kind="warning",
            what=f"parked events: {format_count(inbox.failed)}, the oldest for {oldest}",
            why="The table refused them, or a deletion waits for delete_grace. sync-service tries them again"
            " automatically.",
            run=("sync-service events list --status failed",),
            data={"events": inbox.failed, "oldest_seconds": round(inbox.oldest_failed_seconds or 0)},
        )
    if inbox.pending_emails:
        yield Finding(
            code="addresses_wanted",
            kind="note",
            what="users without an email or another unique value because another row has it:"
            f" {format_count(inbox.pending_emails)}",
            why="If sync-service does not know the Clerk ID of that row, it may be the same person in another instance."
            " The value is restored once it is free.",
            data={"users": inbox.pending_emails},
        )
    yield report_inbox(inbox)


def report_inbox(inbox: InboxCounts) -> Finding:
    """Return the finding with the figures of the inbox."""
    silent_seconds = None if inbox.silent_seconds is None else round(inbox.silent_seconds)
    last = "never" if inbox.silent_seconds is None else f"{format_duration(inbox.silent_seconds)} ago"
    return Finding(
        code="inbox",
        kind="note",
        what=f"known users: {format_count(inbox.identities)}; last event: {last};"
        f" size of the inbox: {inbox.bytes / 1_000_000:,.1f} MB",
        why="Payloads of finished events are deleted after SYNC_EVENT_RETENTION.",
        data={
            "identities": inbox.identities,
            "seconds_since_last_event": silent_seconds,
            "bytes": inbox.bytes,
            "failed": inbox.failed,
            "dead": inbox.dead,
        },
    )


def _check_silence(inbox: InboxCounts, secrets: int) -> Iterator[Finding]:
    silent = inbox.installed_seconds if inbox.silent_seconds is None else inbox.silent_seconds
    max_days = MAX_SILENT_DAYS_WITH_NEW_USERS if inbox.new_users_since_last_webhook else MAX_SILENT_DAYS
    if silent >= max_days * DAY_SECONDS:
        yield _report_silence(inbox, silent)
    elif inbox.silent_seconds is None:
        several = (
            "one of the secrets in CLERK_WEBHOOK_SIGNING_SECRET" if secrets > 1 else "CLERK_WEBHOOK_SIGNING_SECRET"
        )
        yield Finding(
            code="no_webhook_yet",
            kind="note",
            what="no webhook was accepted yet",
            why=f"Only the first accepted webhook shows that {several} is the secret of Clerk's endpoint.",
            do=_WEBHOOK_STEPS,
        )


def _report_silence(inbox: InboxCounts, silent: float) -> Finding:
    new_users = inbox.new_users_since_last_webhook
    what = f"no webhook was accepted for {format_duration(silent)}"
    if inbox.silent_seconds is None:
        what = f"no webhook was ever accepted since the installation {format_duration(silent)} ago"
    if new_users:
        what += f"; meanwhile {format_count(new_users)} new users appeared without a webhook"
    return Finding(
        code="webhook_silence",
        kind="wrong",
        what=what,
        why="Clerk sends an event at every sign-in, so its webhooks do not arrive or are refused. Rows become outdated,"
        " and deletions are missed.",
        do=_WEBHOOK_STEPS,
        data={"seconds": round(silent), "ever": inbox.silent_seconds is not None, "logins": new_users},
    )


def format_duration(seconds: float) -> str:
    """Return a duration for a person to read."""
    for unit, length in (("day", DAY_SECONDS), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            number = int(seconds // length)
            return f"{number} {unit}{'s' if number > 1 else ''}"
    return "less than a minute"
