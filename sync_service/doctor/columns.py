"""Checks of the users table's columns: lengths, types, unique indexes, triggers (pure)."""

from collections.abc import Iterator

from sync_service.clerk.entities import USER
from sync_service.doctor.column_fixes import widen_column
from sync_service.doctor.findings import Finding
from sync_service.doctor.index_fixes import create_lower_index
from sync_service.mapping.binding import IDENTIFYING_FIELDS
from sync_service.mapping.coercion import JSON_TYPES, TIME_TYPES
from sync_service.mapping.computed_values import COMPUTED, WHOLE_USER
from sync_service.mapping.fields import FieldSource
from sync_service.mapping.introspection import Column, Index, Table
from sync_service.mapping.obstacles import MAX_UNINDEXED_BYTES, find_link_column_without_index
from sync_service.mapping.paths import get_root_field
from sync_service.mapping.table import TableMapping
from sync_service.mapping.unique_rules import list_unique_rules

# The fields of a Clerk user, from the Backend API and the event schema of 2026-05-12.
_CLERK_FIELDS = """
    id object username first_name last_name locale has_image image_url profile_image_url external_id
    primary_email_address_id primary_phone_number_id primary_web3_wallet_id email_addresses phone_numbers web3_wallets
    passkeys external_accounts saml_accounts enterprise_accounts organization_memberships password_enabled
    password_last_updated_at two_factor_enabled totp_enabled backup_code_enabled mfa_enabled_at mfa_disabled_at
    public_metadata private_metadata unsafe_metadata last_sign_in_at last_active_at banned locked
    lockout_expires_in_seconds verification_attempts_remaining created_at updated_at delete_self_enabled
    create_organization_enabled create_organizations_limit legal_accepted_at deprovisioned scim bypass_client_trust
    """
CLERK_FIELDS = frozenset(_CLERK_FIELDS.split())

# Maximum lengths of values that are useless when cut: an email by RFC 5321, a phone number by E.164 with its plus sign,
# an image URL by the length that Clerk's URLs reach.
MAX_EXACT_LENGTHS = {
    "primary_email": 254,
    "primary_phone": 16,
    "image_url": 512,
    "id": 32,
    "external_id": 255,
    "username": 64,
}
MAX_NAME_LENGTHS = {"first_name": 255, "last_name": 255, "full_name": 255}

_TIME_FIELDS = frozenset({"created_at", "updated_at", "last_sign_in_at", "last_active_at"})
_TEXT_FIELDS = frozenset({*MAX_EXACT_LENGTHS, *MAX_NAME_LENGTHS}) - {"external_id"}
_FLAG_FIELDS = frozenset({"banned", "locked", "has_image", "password_enabled", "primary_email_verified"})
_OBJECT_FIELDS = frozenset({"public_metadata", "private_metadata", "unsafe_metadata"})

# PostgreSQL's categories of types that have no text form of such a field: times, intervals, addresses, shapes, bits.
_SPECIAL = frozenset("DTIGV")


def check_columns(mapping: TableMapping, table: Table) -> Iterator[Finding]:
    """Yield the problems of some users, and the triggers that run at every write."""
    for name, source in mapping.columns.items():
        if column := table.column(name):
            yield from _check_source(mapping, source, column)
            yield from _check_length(mapping, source, column)
            yield from _check_type(mapping, source, column)
    yield from _check_unique_indexes(mapping, table)
    yield from _check_linking_index(mapping, table)
    if table.triggers:
        yield Finding(
            code="triggers",
            kind="note",
            what=f"{mapping.name}: has triggers: {', '.join(table.triggers)}",
            why="They run whenever sync-service writes a row, even after a mere sign-in. If a trigger raises an error,"
            " the event is parked.",
            data={"triggers": list(table.triggers)},
        )


def _check_source(mapping: TableMapping, source: FieldSource, column: Column) -> Iterator[Finding]:
    # The fields of the other objects are not listed here.
    for path in source.sources if mapping.entity == USER.name else ():
        field = get_root_field(path)
        if path == WHOLE_USER or path in COMPUTED or field in CLERK_FIELDS:
            continue
        yield Finding(
            code="unknown_field",
            kind="warning",
            what=f"{mapping.name}.{column.name}: is filled from {path}, but no user has {field}",
            why="The column is null for every user, unless Clerk has added the field since this release.",
            do=(f"correct {column.name} under [users.columns] in sync.toml",),
            data={"column": column.name, "source": path},
        )


def _check_length(mapping: TableMapping, source: FieldSource, column: Column) -> Iterator[Finding]:
    field = source.only_source or ""
    max_length = MAX_EXACT_LENGTHS.get(field, MAX_NAME_LENGTHS.get(field, 0))
    if column.length is None or column.length >= max_length or column.generated:
        return
    yield Finding(
        code="short_column",
        kind="warning" if field in MAX_EXACT_LENGTHS else "note",
        what=f"{mapping.name}.{column.name}: is {column.type}, but {field} can have {max_length} characters",
        why=_explain_short_column(field),
        run=(widen_column(mapping.schema, mapping.table, column.name),) if column.base == "varchar" else (),
        data={"column": column.name, "length": column.length, "longest": max_length},
    )


def _explain_short_column(field: str) -> str:
    if field in IDENTIFYING_FIELDS:
        return "PostgreSQL refuses a longer value, and the event is parked."
    if field in MAX_EXACT_LENGTHS:
        return "The end of a longer value is cut off, and the rest is useless."
    return "The end of a longer value is cut off, and the log reports it; no event is lost."


def _check_type(mapping: TableMapping, source: FieldSource, column: Column) -> Iterator[Finding]:
    if not _has_wrong_type(column, source.only_source or ""):
        return
    place = f"[{mapping.kind.section}.columns] in sync.toml"
    yield Finding(
        code="type_mismatch",
        kind="wrong",
        what=f"{mapping.name}.{column.name}: is {column.type}, but is filled from {source.source}",
        why="PostgreSQL refuses a value of another type, so these events are parked.",
        do=(f"map {column.name} to another field under {place}, or remove it there",),
        data={"column": column.name, "type": column.type, "source": source.source},
    )


def _has_wrong_type(column: Column, field: str) -> bool:
    """Return whether the type refuses the field's values. Fields without a fixed type are left to PostgreSQL."""
    if field in _TIME_FIELDS:
        is_wide = column.base not in {"int2", "int4"}  # a number gets milliseconds
        return not (column.base in TIME_TYPES | JSON_TYPES or (column.category in {"S", "N", "A"} and is_wide))
    refusing = _SPECIAL if field in _FLAG_FIELDS else _SPECIAL | {"N", "B"}
    is_typed = field in _TEXT_FIELDS | _FLAG_FIELDS | _OBJECT_FIELDS
    return is_typed and (column.category in refusing or column.base == "uuid")


def _check_unique_indexes(mapping: TableMapping, table: Table) -> Iterator[Finding]:
    """Yield the unique rules on mapped columns whose conflicts the service cannot settle."""
    settled = {rule.index.name for rule in list_unique_rules(mapping, table)}
    for index in table.indexes:
        columns = _find_mapped_columns(mapping, table, index)
        if not index.exclusive or index.keys == (mapping.id_column,) or index.name in settled or not columns:
            continue
        yield Finding(
            code="unique_column",
            kind="warning",
            what=f"{mapping.name}: {', '.join(columns)} must be unique (index {index.name})",
            why="sync-service settles conflicts in an email, a phone number, a username or an external ID only. If"
            " another row still has the value, the event is parked until that row changes.",
            run=("sync-service events list --status failed",),
            data={"index": index.name, "columns": columns},
        )


def _find_mapped_columns(mapping: TableMapping, table: Table, index: Index) -> list[str]:
    """Return the columns of the index that are filled from Clerk; keys of the app do not collide."""
    fields = {name: field for name, field in mapping.columns.items() if table.column(name)}
    given = [name for name, field in fields.items() if field.sources and not field.is_parent_key]
    return [name for name in given if any(_has_column(key, name) for key in index.keys)]


def _has_column(key: str, column: str) -> bool:
    """Return whether an index key is the column or an expression with it."""
    forms = (f"({column})", f"({column}::", f'("{column}")', f'("{column}"::')
    return key == column or any(form in key for form in forms)


def _check_linking_index(mapping: TableMapping, table: Table) -> Iterator[Finding]:
    """Yield the finding for a small table; without the index, a large table is no longer written to."""
    email = find_link_column_without_index(mapping, table)
    if email is None or table.bytes > MAX_UNINDEXED_BYTES:
        return
    yield Finding(
        code="no_index_for_linking",
        kind="warning",
        what=f"{mapping.name}.{email}: has no index on lower({email})",
        why="With link_by_verified_email, PostgreSQL searches the whole table for the email of each new user. Without"
        " the index, the service does not start once the table is large.",
        run=(create_lower_index(table, email),),
        data={"column": email},
    )
