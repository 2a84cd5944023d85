"""The users table in numbers: the owner's report, and what of it needs attention (pure). Nobody is named."""

from collections.abc import Iterator

from sync_service.doctor.findings import Finding, told
from sync_service.mapping.table import TableMapping
from sync_service.postgres import cures
from sync_service.postgres.catalogue import Table
from sync_service.postgres.counts import Users


def people_findings(
    mapping: TableMapping, table: Table, users: Users, *, asked: int = 0, unknown: int = 0
) -> Iterator[Finding]:
    """Yield the report; Clerk was asked about so many IDs that were never seen, and did not know so many of them."""
    yield Finding(
        code="users",
        kind="note",
        what=f"{mapping.name}: users: {told(users.rows)}, with a Clerk ID: {told(users.with_clerk_id)},"
        f" without: {told(users.without_clerk_id)}",
        why="Who has none is nobody in Clerk: existing rows are adopted with link_by_verified_email, or stay as they"
        " are.",
        data={"users": users.rows, "with_clerk_id": users.with_clerk_id, "without_clerk_id": users.without_clerk_id},
    )
    if users.twice:
        yield Finding(
            code="clerk_ids_twice",
            kind="wrong",
            what=f"{mapping.name}.{mapping.clerk_id}: {told(users.twice)} IDs stand in more than one row",
            why="Which of them is the user cannot be told; the unique index cannot be made until they are one.",
            run=(cures.twice(table, mapping.clerk_id),),
            data={"clerk_ids": users.twice},
        )
    if users.odd:
        yield Finding(
            code="odd_clerk_ids",
            kind="note",
            what=f"{mapping.name}.{mapping.clerk_id}: {told(users.odd)} values are not of the form user_…",
            why="Clerk never sends them; the rows are the app's own, or hold the ID of another system.",
            data={"rows": users.odd},
        )
    if users.addresses_shared:
        linking = mapping.link_by_verified_email
        yield Finding(
            code="duplicate_addresses",
            kind="warning" if linking else "note",
            what=f"{mapping.name}: {told(users.rows_sharing)} rows share an address, in any case of letters",
            why="Of two rows with one address none is adopted, for nobody can say which is meant."
            if linking
            else "Nobody can say which of them is the user whom Clerk has at that address.",
            data={"addresses": users.addresses_shared, "rows": users.rows_sharing},
        )
    if users.never_seen:
        yield _never_seen(mapping, users, asked, unknown)


def _never_seen(mapping: TableMapping, users: Users, asked: int, unknown: int) -> Finding:
    data = {"rows": users.never_seen, "asked": asked, "unknown_to_clerk": unknown}
    if unknown:
        return Finding(
            code="foreign_clerk_ids",
            kind="warning",
            what=f"{mapping.name}.{mapping.clerk_id}: {told(users.never_seen)} Clerk IDs were never seen, and of"
            f" {asked} asked for, Clerk does not know {unknown} in this instance",
            why="They are of another instance (development, production), or deleted. One person has another ID in each"
            " instance; nothing links the two by itself.",
            do=("keep one database an instance, or set those rows' Clerk ID to null, to be adopted again",),
            data=data,
        )
    return Finding(
        code="unseen_clerk_ids",
        kind="note",
        what=f"{mapping.name}.{mapping.clerk_id}: {told(users.never_seen)} Clerk IDs were never seen by the service",
        why="From before it, or of another Clerk instance: IDs of development and production look the same, one"
        " person has another in each, and nothing links the two by itself.",
        data=data,
    )
