"""What of the users table the owner should know: lengths, types, what is unique, triggers (pure)."""

from collections.abc import Iterator

from sync_service.doctor.findings import Finding
from sync_service.mapping.sources import COMPUTED, WHOLE
from sync_service.mapping.sources import Column as Source
from sync_service.mapping.table import TableMapping
from sync_service.postgres import cures
from sync_service.postgres.catalogue import Column, Table
from sync_service.postgres.conversion import JSON, TIMES

# Clerk's user, by its Backend API and the events' schema of 2026-05-12, beside what is computed of it.
_FIELDS = """
    id object username first_name last_name locale has_image image_url profile_image_url external_id
    primary_email_address_id primary_phone_number_id primary_web3_wallet_id email_addresses phone_numbers web3_wallets
    passkeys external_accounts saml_accounts enterprise_accounts organization_memberships password_enabled
    password_last_updated_at two_factor_enabled totp_enabled backup_code_enabled mfa_enabled_at mfa_disabled_at
    public_metadata private_metadata unsafe_metadata last_sign_in_at last_active_at banned locked
    lockout_expires_in_seconds verification_attempts_remaining created_at updated_at delete_self_enabled
    create_organization_enabled create_organizations_limit legal_accepted_at deprovisioned scim bypass_client_trust
    """
FIELDS = frozenset(_FIELDS.split())

# How long a value may be: an address by RFC 5321, E.164 with its plus, what Clerk's image addresses come to.
LONG = {"primary_email": 254, "primary_phone": 16, "image_url": 512, "id": 32, "external_id": 255, "username": 64}
NAMES = {"first_name": 255, "last_name": 255, "full_name": 255}


def column_findings(mapping: TableMapping, table: Table) -> Iterator[Finding]:
    """Yield what some users will meet, and what runs along with every sync."""
    for name, spec in mapping.columns.items():
        if column := table.column(name):
            yield from _column_findings(mapping, spec, column)
    yield from _unique_findings(mapping, table)
    if mapping.link_by_verified_email:
        yield from _link_findings(mapping, table)
    if table.triggers:
        yield Finding(
            code="triggers",
            kind="note",
            what=f"{mapping.name}: has triggers: {', '.join(table.triggers)}",
            why="They run at every sync, also when only a sign-in was told; what they raise parks the event.",
            data={"triggers": list(table.triggers)},
        )


def _column_findings(mapping: TableMapping, spec: Source, column: Column) -> Iterator[Finding]:
    name = f"{mapping.name}.{column.name}"
    if spec.source and spec.source != WHOLE and spec.source not in COMPUTED and spec.root not in FIELDS:
        yield Finding(
            code="unknown_field",
            kind="warning",
            what=f"{name}: is filled from {spec.source}, and Clerk's user has no {spec.root}",
            why="It is null for everybody, unless Clerk has added the field since.",
            do=(f"correct {column.name} below [users.columns] of sync.toml",),
            data={"column": column.name, "source": spec.source},
        )
    longest = LONG.get(spec.source or "", NAMES.get(spec.source or "", 0))
    if column.length is not None and column.length < longest and not column.generated:
        breaks = spec.source in LONG
        yield Finding(
            code="short_column",
            kind="warning" if breaks else "note",
            what=f"{name}: is {column.type}, and {spec.source} can have {longest} characters",
            why="What is longer is cut, and a part of it is of no use."
            if breaks
            else "What is longer is cut at the end, and logged as `cut to fit`; no event is lost.",
            run=(cures.widen(mapping.schema, mapping.table, column.name),) if column.base == "varchar" else (),
            data={"column": column.name, "length": column.length, "longest": longest},
        )
    if _mismatch(column, spec.source or ""):
        yield Finding(
            code="type_mismatch",
            kind="wrong",
            what=f"{name}: is {column.type}, and is filled from {spec.source}",
            why="Its type cannot hold what is written to it; those users are parked.",
            do=(f"map {column.name} to another field below [users.columns] of sync.toml, or leave it out",),
            data={"column": column.name, "type": column.type, "source": spec.source},
        )


def _mismatch(column: Column, source: str) -> bool:
    """Return whether the type refuses what Clerk says there; what may be of any form is left to PostgreSQL."""
    if source in {"created_at", "updated_at", "last_sign_in_at", "last_active_at"}:
        return column.base not in TIMES | JSON and column.category not in {"S", "N", "A"}
    texts = {*LONG, *NAMES} - {"external_id"}
    return source in texts and (column.category in {"N", "B", "D"} or column.base == "uuid")


def _unique_findings(mapping: TableMapping, table: Table) -> Iterator[Finding]:
    """Yield what the table takes only once of what Clerk's users bring, beside the ID and the address."""
    for index in table.indexes:
        if not index.unique or index.keys == (mapping.clerk_id,):
            continue
        hit = [c for c in mapping.columns if table.column(c) and any(_mentions(key, c) for key in index.keys)]
        sources = {mapping.columns[name].source for name in hit}
        if not hit or sources == {"primary_email"}:
            continue
        columns = ", ".join(hit)
        yield Finding(
            code="unique_column",
            kind="warning",
            what=f"{mapping.name}: {columns} must be unique (index {index.name})",
            why="Only addresses are given up and given back: a user whose value another row still has is parked until"
            " that row lets go of it.",
            run=("sync-service events list --status failed",),
            data={"index": index.name, "columns": hit},
        )


def _mentions(key: str, column: str) -> bool:
    """Return whether an index's key is the column or an expression over it."""
    forms = (f"({column})", f"({column}::", f'("{column}")', f'("{column}"::')
    return key == column or any(form in key for form in forms)


def _link_findings(mapping: TableMapping, table: Table) -> Iterator[Finding]:
    addresses = [name for name, column in mapping.columns.items() if column.source == "primary_email"]
    address = next((name for name in addresses if table.column(name)), None)
    if address and not any(i.valid and not i.partial and _lowered(i.keys[0], address) for i in table.indexes):
        yield Finding(
            code="no_index_for_linking",
            kind="warning",
            what=f"{mapping.name}.{address}: has no index on lower({address})",
            why="With link_by_verified_email every new user reads the whole table for the address.",
            run=(cures.lower_index(table, address),),
            data={"column": address},
        )


def _lowered(key: str, column: str) -> bool:
    return key.startswith("lower(") and _mentions(key, column)
