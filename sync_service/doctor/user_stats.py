"""Report on the users table: rows with and without a Clerk ID, duplicates, unknown IDs (pure). It names no user."""

from collections.abc import Iterator

from msgspec import Struct

from sync_service.doctor.findings import Finding, format_count, format_number_of
from sync_service.doctor.index_fixes import list_duplicates
from sync_service.doctor.user_counts import UserCounts
from sync_service.mapping.introspection import Table
from sync_service.mapping.table import TableMapping


class ClerkSample(Struct, frozen=True):
    """Clerk was asked about `asked` IDs that sync-service does not know; `unknown` of them are unknown to Clerk too."""

    asked: int = 0
    unknown: int = 0


def check_users(mapping: TableMapping, table: Table, users: UserCounts, sample: ClerkSample) -> Iterator[Finding]:
    """Yield the counts of the users table, and the problems among them."""
    id_column = f"{mapping.name}.{mapping.id_column}"
    yield Finding(
        code="users",
        kind="note",
        what=f"{mapping.name}: users: {format_count(users.rows)}, with a Clerk ID: {format_count(users.with_clerk_id)},"
        f" without: {format_count(users.without_clerk_id)}",
        why="A row without a Clerk ID belongs to no user in Clerk. link_by_verified_email links such rows; without it"
        " they stay as they are.",
        lines=(f"newest user: {users.newest}",) if users.newest else (),
        data={
            "users": users.rows,
            "with_clerk_id": users.with_clerk_id,
            "without_clerk_id": users.without_clerk_id,
            "newest": users.newest,
        },
    )
    if users.duplicate_ids:
        yield Finding(
            code="clerk_ids_twice",
            kind="wrong",
            what=f"{id_column}: {format_count(users.duplicate_ids)} IDs are in more than one row",
            why="sync-service cannot decide which row is the user. The unique index can be created only when each ID is"
            " in one row.",
            run=(list_duplicates(table, mapping.id_column),),
            data={"clerk_ids": users.duplicate_ids},
        )
    if users.malformed_ids:
        yield Finding(
            code="odd_clerk_ids",
            kind="note",
            what=f"{id_column}: {format_count(users.malformed_ids)} values do not have the form user_…",
            why="Clerk never sends them. These rows belong to the app alone, or they have the ID of another system.",
            data={"rows": users.malformed_ids},
        )
    if users.shared_emails:
        yield _report_shared_emails(mapping, users)
    if users.unknown_ids:
        yield _report_unknown_ids(id_column, users.unknown_ids, sample)


def _report_shared_emails(mapping: TableMapping, users: UserCounts) -> Finding:
    why = "sync-service cannot decide which of them is the user that Clerk has with that email."
    if mapping.link_by_verified_email:
        why = "Rows that share an email are not linked, because sync-service cannot decide which one is the user."
    return Finding(
        code="duplicate_addresses",
        kind="warning" if mapping.link_by_verified_email else "note",
        what=f"{mapping.name}: {format_count(users.rows_with_shared_email)} rows share an email with another row,"
        " ignoring case",
        why=why,
        data={"addresses": users.shared_emails, "rows": users.rows_with_shared_email},
    )


def _report_unknown_ids(id_column: str, rows: int, sample: ClerkSample) -> Finding:
    what = f"{id_column}: sync-service does not know {format_number_of(rows, 'Clerk ID')}"
    data = {"rows": rows, "asked": sample.asked, "unknown_to_clerk": sample.unknown}
    if sample.unknown:
        return Finding(
            code="foreign_clerk_ids",
            kind="warning",
            what=f"{what}; of {sample.asked} that were checked, {sample.unknown} do not exist in this Clerk instance",
            why="They belong to another instance (development, production), or their users were deleted. A person has a"
            " different ID in each instance, and sync-service cannot link the two.",
            do=("use one database for each instance, or set the Clerk ID of these rows to null to link them again",),
            data=data,
        )
    return Finding(
        code="unseen_clerk_ids",
        kind="note",
        what=what,
        why="They are older than the installation, or belong to another Clerk instance. IDs of development and"
        " production look the same. A person has a different ID in each, and sync-service cannot link the two.",
        data=data,
    )
