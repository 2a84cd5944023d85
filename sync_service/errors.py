"""What can go wrong, as types; each says whose fault it is and whether trying again helps.

SyncError
├── SettingsError         the owner's: a setting is missing or wrong; nothing starts (exit status 2)
├── NoPostgres            the machine's: there is no PostgreSQL to run (exit status 1)
├── SchemaError           the owner's: the database is not at the version that this code needs (exit status 1)
├── Refusal               the caller's: the same request will be refused again (4xx)
│   ├── MissingHeaders    no `svix-id`, `svix-timestamp` or `svix-signature`
│   ├── BadTimestamp      not whole seconds, or more than five minutes from now
│   ├── BadSignature      signed with another secret, or changed on its way
│   ├── BadPayload        signed, but not an event at all
│   ├── WrongInstance     signed, but of another Clerk instance
│   ├── BodyTooLarge      over 1 MiB
│   ├── SlowBody          the body did not arrive in time
│   ├── BadRequest        not what the route takes
│   ├── BadToken          no token, or none that is accepted
│   ├── WrongUser         a session token of one user, and another is named
│   ├── UnknownUser       neither we nor Clerk know the user
│   ├── DeletedUser       the user is deleted
│   └── TooManyRequests   asks more than Clerk would let us ask
├── ClerkUnavailable      Clerk's: it cannot be asked now, and trying again later helps (503)
│   └── ClerkRefused      ours: Clerk refuses CLERK_SECRET_KEY, or it is another instance's
└── DatabaseFault         what PostgreSQL raises, translated in postgres/faults.py
    ├── Unavailable       nobody's: the database is away or busy; the sender helps by trying again (503)
    │   └── Unfit         the owner's: the mapping cannot work with the table; the sender keeps all until it does
    └── Unappliable       ours: stored and answered 202, to be repaired and tried again here
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType


class SyncError(Exception):
    """Whatever this service raises on purpose."""


class SettingsError(SyncError):
    """Settings that are missing or wrong: all of them, by name, never by value."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


class NoPostgres(SyncError):
    """There is no database to run on."""


class SchemaError(SyncError):
    """The database is behind or ahead of this code, or its migrations are not the ones known here."""


class Refusal(SyncError):
    """The caller's fault. `str(refusal)` is what the caller may read."""

    status = 400
    code = "bad_request"
    title = "Bad request"
    headers: Mapping[str, str] = MappingProxyType({})


class MissingHeaders(Refusal):
    """A header that Svix always sends is absent or blank."""

    code = "missing_headers"
    title = "Signature headers are missing"


class BadTimestamp(Refusal):
    """The attempt's time is not whole seconds, or too far from now."""

    code = "bad_timestamp"
    title = "The timestamp is not acceptable"


class BadSignature(Refusal):
    """No signature matches."""

    code = "bad_signature"
    title = "No signature matches"


class BadPayload(Refusal):
    """The body is not an event."""

    code = "bad_payload"
    title = "The body is not an event"


class WrongInstance(Refusal):
    """The event is of another Clerk instance."""

    status = 403
    code = "wrong_instance"
    title = "The event is of another Clerk instance"


class BodyTooLarge(Refusal):
    """The body exceeds the limit."""

    status = 413
    code = "body_too_large"
    title = "The body is too large"


class SlowBody(Refusal):
    """The body did not arrive in time."""

    status = 408
    code = "slow_body"
    title = "The body did not arrive in time"


class BadRequest(Refusal):
    """The body, the query or the path is not what the route takes."""

    title = "The request is not what this route takes"


class BadToken(Refusal):
    """There is no token, or it is expired, early, foreign, forged or of another kind."""

    status = 401
    code = "bad_token"
    title = "The token is not accepted"
    headers = MappingProxyType({"WWW-Authenticate": "Bearer"})


class WrongUser(Refusal):
    """A session token speaks for its own user alone."""

    status = 403
    code = "wrong_user"
    title = "The token is another user's"


class UnknownUser(Refusal):
    """Nobody knows the user."""

    status = 404
    code = "unknown_user"
    title = "The user is not known"


class DeletedUser(Refusal):
    """The user is deleted, and nothing brings them back."""

    status = 410
    code = "deleted_user"
    title = "The user is deleted"


class TooManyRequests(Refusal):
    """Clerk has a quota, and this would use it up."""

    status = 429
    code = "too_many_requests"
    title = "Too many requests"

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__("This asks Clerk more often than its quota allows. Try again later.")
        self.headers = {"Retry-After": str(retry_after_seconds)}


class ClerkUnavailable(SyncError):
    """Clerk gave no answer that can be used. `reason` is for the log: a class or a status, never a value."""

    def __init__(self, reason: str, *, retry_after_seconds: int = 5) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


class ClerkRefused(ClerkUnavailable):
    """Clerk does not take our key, or the key is another instance's: the owner must repair CLERK_SECRET_KEY."""


class DatabaseFault(SyncError):
    """PostgreSQL or the way to it failed. `reason` is the fault's class in PostgreSQL's own words (`unique_violation`).

    `sqlstate` is empty where no server was reached. Names of the schema are for operators, never for a caller.
    """

    retry_after_seconds = 5

    def __init__(
        self,
        reason: str,
        *,
        sqlstate: str = "",
        table: str | None = None,
        column: str | None = None,
        constraint: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sqlstate = sqlstate
        self.table = table
        self.column = column
        self.constraint = constraint


class Unavailable(DatabaseFault):
    """It could not be stored now, and trying again later helps."""


class Unfit(Unavailable):
    """The mapping cannot work with the table that is there. `faults` name what stands in the way, for the owner."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("unfit_mapping")
        self.faults = tuple(faults)


class Unappliable(DatabaseFault):
    """PostgreSQL or the app's table refused it, and only we can repair that."""
