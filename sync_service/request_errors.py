"""Errors of the caller's request: the same request is rejected again (4xx). Some name another party that must act.

RequestError
├── MissingHeaders    `svix-id`, `svix-timestamp` or `svix-signature` is missing
├── BadTimestamp      not whole seconds, or more than five minutes from now
├── BadSignature      signed with another secret, or modified on its way
├── BadPayload        correctly signed, but not an event
├── WrongInstance     correctly signed, but from another Clerk instance
├── BodyTooLarge      over 1 MiB
├── SlowBody          the body did not arrive in time
├── BadRequest        body, query or path is not valid for the route
├── BadToken          no token, or a token that is not accepted
│   └── NoTokenKey    operator: no setting gives a key for session tokens
├── WrongUser         the session token of one user in a request for another user
├── UnknownUser       neither the database nor Clerk has the user
├── DeletedUser       the user is deleted
├── RowRefused        operator: the app's table refuses the row of a login
├── TooManyRequests   more requests to Clerk than its rate limit allows
├── NotRecorded       operator: changes are not recorded
└── TooManyWaiting    too many requests wait for a change
"""

from collections.abc import Mapping
from types import MappingProxyType

from sync_service.errors import SyncError


class RequestError(SyncError):
    """The request is rejected because of the caller. `str()` of it is safe to send to the caller."""

    status = 400
    code = "bad_request"
    title = "Bad request"
    headers: Mapping[str, str] = MappingProxyType({})
    # The class of the error, for the caller's program.
    reason: str | None = None
    # For the operator's log.
    hint: str | None = None


class MissingHeaders(RequestError):
    """A header that Svix always sends is missing or blank."""

    code = "missing_headers"
    title = "Signature headers are missing"


class BadTimestamp(RequestError):
    """The timestamp of the delivery attempt is not whole seconds, or too far from now."""

    code = "bad_timestamp"
    title = "The timestamp is not acceptable"


class BadSignature(RequestError):
    """No signature matches."""

    code = "bad_signature"
    title = "No signature matches"


class BadPayload(RequestError):
    """The body is not an event."""

    code = "bad_payload"
    title = "The body is not an event"


class WrongInstance(RequestError):
    """The event comes from another Clerk instance."""

    status = 403
    code = "wrong_instance"
    title = "The event comes from another Clerk instance"


class BodyTooLarge(RequestError):
    """The body exceeds the limit."""

    status = 413
    code = "body_too_large"
    title = "The body is too large"


class SlowBody(RequestError):
    """The body did not arrive in time."""

    status = 408
    code = "slow_body"
    title = "The body did not arrive in time"


class BadRequest(RequestError):
    """The body, the query or the path is not valid for the route."""

    title = "The request is not valid for this route"


class BadToken(RequestError):
    """The token is missing, expired, not yet valid, of another instance, forged or of another kind."""

    status = 401
    code = "bad_token"
    title = "The token is not accepted"
    headers = MappingProxyType({"WWW-Authenticate": "Bearer"})


class NoTokenKey(BadToken):
    """No setting gives a key that verifies session tokens."""

    hint = "set CLERK_PUBLISHABLE_KEY or CLERK_JWT_KEY, so that the service can verify session tokens"


class WrongUser(RequestError):
    """A session token gives access to its own user only."""

    status = 403
    code = "wrong_user"
    title = "The token belongs to another user"


class UnknownUser(RequestError):
    """Neither the database nor Clerk has the user."""

    status = 404
    code = "unknown_user"
    title = "The user is not known"


class DeletedUser(RequestError):
    """The user is deleted. No later webhook or login restores the row."""

    status = 410
    code = "deleted_user"
    title = "The user is deleted"


class RowRefused(RequestError):
    """Clerk and the database answer, but the app's table refuses the row. `reason` is the class of its error."""

    status = 409
    code = "row_refused"
    title = "The table refuses the row"

    def __init__(self, reason: str) -> None:
        super().__init__("The application's table refuses this user's row. The operators see the cause.")
        self.reason = reason


class TooManyRequests(RequestError):
    """The request would exceed Clerk's rate limit."""

    status = 429
    code = "too_many_requests"
    title = "Too many requests"

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__("The request would exceed the rate limit of Clerk. Try again later.")
        self.headers = {"Retry-After": str(retry_after_seconds)}


class NotRecorded(RequestError):
    """Changes are not recorded, so there is no feed."""

    status = 404
    code = "not_recorded"
    title = "Changes are not recorded"

    def __init__(self) -> None:
        super().__init__("The service does not record changes. Add [changes] with record = true to sync.toml.")


class TooManyWaiting(RequestError):
    """Too many requests wait for a change."""

    status = 429
    code = "too_many_requests"
    title = "Too many requests"
    headers = MappingProxyType({"Retry-After": "5"})

    def __init__(self) -> None:
        super().__init__("Too many requests of this service wait for a change. Let each consumer wait only once.")
