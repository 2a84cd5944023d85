"""The event types of Clerk, and the one that a misspelt type is close to (pure).

https://clerk.com/docs/guides/development/webhooks/overview ; a type that is not in the list may still exist.
"""

from difflib import get_close_matches

_ACTIONS = {
    "email": "created",
    "invitation": "created accepted revoked",
    "organization": "created updated deleted",
    "organizationDomain": "created updated deleted",
    "organizationInvitation": "created accepted revoked",
    "organizationMembership": "created updated deleted",
    "paymentAttempt": "created updated",
    "permission": "created updated deleted",
    "role": "created updated deleted",
    "session": "created pending ended removed revoked",
    "sms": "created",
    "subscription": "created updated active pastDue",
    "subscriptionItem": "abandoned active canceled created ended freeTrialEnding incomplete pastDue upcoming updated",
    "user": "created updated deleted",
    "waitlistEntry": "created updated",
}
EVENT_TYPES = tuple(f"{entity}.{action}" for entity, actions in _ACTIONS.items() for action in actions.split())

# The ratio of difflib: user.delete and user.deleted have 0.96, user.banned and user.created 0.70.
MIN_RATIO = 0.9


def find_intended_type(event_type: str) -> str | None:
    """Return the type of Clerk that `event_type` is a misspelling of, or None for a known or quite another type."""
    if event_type in EVENT_TYPES:
        return None
    spellings = {known.lower(): known for known in EVENT_TYPES}
    close = get_close_matches(event_type.strip().lower(), spellings, n=1, cutoff=MIN_RATIO)
    return spellings[close[0]] if close else None
