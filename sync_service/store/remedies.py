"""The remedy of each reason of a failed event (pure). docs/operations.md has a section for each of them."""

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct


class Remedy(Struct, frozen=True):
    """One class of failures: `title` is its heading in docs/operations.md, `fix` is one sentence for the operator."""

    title: str
    meaning: str
    fix: str
    reasons: tuple[str, ...]

    @property
    def anchor(self) -> str:
        """Return the anchor of the section in docs/operations.md."""
        return self.title.lower().replace(" ", "-")


OTHER = Remedy(
    "Other errors",
    "PostgreSQL refused the change with another error.",
    "Look up the name in PostgreSQL's list of error codes, and correct the table or the trigger.",
    (),
)

REMEDIES = (
    Remedy(
        "Email conflict",
        "Another row has the email of this user.",
        "Change the email in one of the two rows, or remove the row that is no longer needed.",
        ("email_conflict",),
    ),
    Remedy(
        "Unique violation",
        "Another row has a value that the constraint allows only once.",
        "Change or remove the other row, or drop the constraint if the value may repeat.",
        ("unique_violation", "exclusion_violation"),
    ),
    Remedy(
        "Missing value",
        "The column is NOT NULL, and neither Clerk's user nor the mapping gives it a value.",
        "Give the column a source or `when_null` in sync.toml, or a default in the table.",
        ("not_null_violation",),
    ),
    Remedy(
        "Foreign key violation",
        "Rows of another table refer to this user, or the row refers to a row that does not exist.",
        "Change the key to CASCADE or SET NULL, set `on_delete` to soft or anonymize, or insert the missing row.",
        ("foreign_key_violation",),
    ),
    Remedy(
        "Check violation",
        "A CHECK constraint of the table refuses a value.",
        "Change the constraint so that it allows Clerk's values, or map another source to the column.",
        ("check_violation",),
    ),
    Remedy(
        "Invalid value",
        "The type of the column cannot hold the value: it is too long, out of range, or no label of the enum.",
        "Widen the column, add the label to the enum, or map another source to the column.",
        (
            "string_data_right_truncation",
            "invalid_text_representation",
            "numeric_value_out_of_range",
            "invalid_datetime_format",
            "datetime_field_overflow",
            "character_not_in_repertoire",
            "untranslatable_character",
            "data",
            "data_exception",
            "datatype_mismatch",
        ),
    ),
    Remedy(
        "Row not written",
        "A trigger or a rule of the table suppressed the row, changed its Clerk ID, or cancelled the deletion.",
        "Change the trigger or the rule so that it keeps the row.",
        ("row_not_written",),
    ),
    Remedy(
        "Error of a trigger",
        "A trigger of the table raised an error.",
        "Correct the function that the failure names, or the data that it checks.",
        ("raise", "assert", "no_data_found", "too_many_rows", "plpgsql", "triggered_action"),
    ),
    Remedy(
        "Missing privilege",
        "The role of the service may not do this.",
        "Run `sync-service doctor`, which prints the GRANT statements, or grant the role the rights of the trigger.",
        ("insufficient_privilege",),
    ),
    Remedy(
        "Missing object",
        "A trigger, a default or the mapping names a table, column, function or setting that does not exist.",
        "Run the pending migration of your app, or correct the trigger, the default or sync.toml.",
        (
            "undefined_table",
            "undefined_column",
            "undefined_function",
            "undefined_object",
            "invalid_schema_name",
            "invalid_column_reference",
        ),
    ),
    Remedy(
        "Locks and timeouts",
        "A lock or a timeout ended the statement: the row was locked, or a trigger or a cascade took too long.",
        "End the transaction that holds the lock, or make the trigger or the cascade faster.",
        (
            "lock_not_available",
            "deadlock_detected",
            "serialization",
            "query_canceled",
            "timeout",
            "transaction_timeout",
            "idle_in_transaction_session_timeout",
        ),
    ),
    Remedy(
        "Missing parent",
        "The session or membership belongs to a user or an organization that has no row yet.",
        "Wait, because the arrival of the parent applies the event, or run `sync-service reconcile`.",
        ("waiting_for_user", "waiting_for_organization"),
    ),
    Remedy(
        "Unreadable user",
        "The service cannot read the user, session, organization or membership in this event.",
        "Install the newest release, then replay the event.",
        ("unreadable_user", "unreadable_session", "unreadable_organization", "unreadable_membership"),
    ),
    Remedy(
        "Long deletion",
        "The deletion takes more than two seconds, and the service finishes it in the background.",
        "Wait, and if it does not finish, run `sync-service doctor`, which names the foreign keys without an index.",
        ("long_deletion",),
    ),
    Remedy(
        "Deferred deletion",
        "The user is deleted in Clerk, and the row is kept until `delete_grace` ends.",
        "Wait, or keep the row with `sync-service users restore CLERK_ID`.",
        ("delete_grace",),
    ),
    Remedy(
        "Replaced values",
        "The event is applied, but a value that PostgreSQL cannot store was replaced.",
        "Correct the value in Clerk if it matters.",
        ("value_replaced",),
    ),
    OTHER,
)

_BY_REASON: Mapping[str, Remedy] = MappingProxyType(
    {reason: remedy for remedy in REMEDIES for reason in remedy.reasons}
)


def find_remedy(reason: str) -> Remedy:
    """Return the remedy of an event's reason; `OTHER` for a reason without one of its own."""
    return _BY_REASON.get(reason, OTHER)
