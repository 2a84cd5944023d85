"""Errors that the service raises on purpose, by the party that must act. Each group states whether a retry helps.

SyncError
├── SettingsError         operator: a setting is missing or invalid; the service does not start (exit status 2)
├── PostgresNotFound      machine: there is no PostgreSQL that can be run (exit status 1)
├── SchemaError           operator: the database is not at the schema version that this code needs (exit status 1)
├── RequestError          caller: the same request is rejected again (4xx); see request_errors.py
├── ClerkUnavailable      Clerk: no usable response now; a later retry helps (503)
│   ├── ClerkAuthError       operator: Clerk rejects CLERK_SECRET_KEY, or the key belongs to another instance
│   ├── ClerkRequestRefused  Clerk rejects the parameters of a list, such as the cursor of a deleted user
│   └── UnconfirmedDeletion  a 404 that does not prove the deletion of the user
└── DatabaseError         an error of PostgreSQL or of the connection, translated in postgres/errors.py
    ├── DatabaseUnavailable  no party: the database is unreachable or busy; a retry by the sender helps (503)
    │   ├── DoubtfulError    the code says the same, but a trigger of the app may raise it too
    │   └── MappingMismatch  operator: the mapping does not fit the table; the sender keeps all events
    └── ChangeRejected       service: the change is stored, the response is 202; it is repaired and retried here
        └── ParentMissing    Clerk: the row of the parent has not arrived yet; the event waits for it
"""

from collections.abc import Sequence


class SyncError(Exception):
    """Base class of the errors that this service raises on purpose."""


class SettingsError(SyncError):
    """Settings are missing or invalid. The message lists all of them by name, never by value."""

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = tuple(errors)


class PostgresNotFound(SyncError):
    """There is no PostgreSQL that can be run."""


class SchemaError(SyncError):
    """The schema version is lower or higher than this code needs, or its migrations differ from the known ones."""


class ClerkUnavailable(SyncError):
    """Clerk gave no usable response. `reason` is for the log: an error class, a status or a code, never a value."""

    def __init__(self, reason: str, *, retry_after_seconds: int = 5) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


class ClerkAuthError(ClerkUnavailable):
    """Clerk rejects the key, or the key belongs to another instance: the operator must correct CLERK_SECRET_KEY."""


class ClerkRequestRefused(ClerkUnavailable):
    """Clerk rejects the request for a list. `reason` is the status."""


class UnconfirmedDeletion(ClerkUnavailable):
    """A 404 that does not prove the deletion of the user: of another server, or for a key of another instance."""


class DatabaseError(SyncError):
    """PostgreSQL or the connection to it failed. `reason` is PostgreSQL's name of the error (`unique_violation`).

    `sqlstate` is empty if no server was reached. `table`, `column`, `constraint` and `function` (the app's PL/pgSQL
    function, mostly of a trigger) are for operators, never for a caller.
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
        function: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sqlstate = sqlstate
        self.table = table
        self.column = column
        self.constraint = constraint
        self.function = function
        self.parent_id: str | None = None


class DatabaseUnavailable(DatabaseError):
    """The change could not be stored now. A later retry helps."""


class DoubtfulError(DatabaseUnavailable):
    """A statement failed with the code of an unavailable database. A trigger or a foreign table may raise it too."""


class MappingMismatch(DatabaseUnavailable):
    """The mapping does not work with the existing table. `errors` are the reasons, for the operator."""

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__("unfit_mapping")
        self.errors = tuple(errors)


class ChangeRejected(DatabaseError):
    """PostgreSQL or the app's table rejected the change. Only the operator can repair that, not the sender."""


class ParentMissing(ChangeRejected):
    """The row of the parent does not exist yet. The event waits for it; that is no failed attempt."""

    def __init__(self, reason: str, parent_id: str) -> None:
        super().__init__(reason)
        self.parent_id = parent_id
