"""Presets: complete mappings by name (pure). A preset ignores its columns that the table does not have."""

from collections.abc import Mapping
from dataclasses import replace

from sync_service.mapping.sources import WHOLE, Column
from sync_service.mapping.table import TableMapping

# The built-in table. `migrate` creates it if it does not exist.
DEFAULT = TableMapping(
    clerk_id="id",
    columns={
        "email": Column("primary_email"),
        "email_verified": Column("primary_email_verified"),
        "phone": Column("primary_phone"),
        "username": Column("username"),
        "first_name": Column("first_name"),
        "last_name": Column("last_name"),
        "image_url": Column("image_url"),
        "external_id": Column("external_id"),
        "banned": Column("banned"),
        "locked": Column("locked"),
        "public_metadata": Column("public_metadata"),
        "last_sign_in_at": Column("last_sign_in_at"),
        "created_at": Column("created_at"),
        "updated_at": Column("updated_at"),
    },
    created_by="default_users.sql",
)

# A placeholder for tables that require an email. RFC 2606 reserves .invalid, so mail to it is never delivered.
NOBODY = "{clerk_id}@users.invalid"

_OPTIONAL = {name: replace(column, optional=True) for name, column in DEFAULT.columns.items()}
_OPTIONAL["email"] = Column("primary_email", when_null=NOBODY, optional=True)

PRESETS: Mapping[str, TableMapping] = {
    # The Clerk ID is the primary key.
    "text_id": replace(DEFAULT, columns=_OPTIONAL),
    # The app has its own primary key of any type, and the Clerk ID in another column. It also writes its own row times.
    "integer_id": TableMapping(
        clerk_id="clerk_user_id",
        columns={name: column for name, column in _OPTIONAL.items() if name not in {"created_at", "updated_at"}},
    ),
    # Neon Auth's table. In a table that Neon created, the columns are generated from keys of raw_json.
    "neon_auth": TableMapping(
        schema="neon_auth",
        table="users_sync",
        clerk_id="id",
        columns={
            "raw_json": Column(
                WHOLE,
                also={
                    "display_name": "full_name",
                    "primary_email": "primary_email",
                    "signed_up_at_millis": "created_at",
                },
            ),
            "name": Column("full_name", optional=True),
            "email": Column("primary_email", optional=True),
            "created_at": Column("created_at", optional=True),
            "updated_at": Column("updated_at", optional=True),
        },
        on_delete="soft",
        deleted_at="deleted_at",
        created_by="neon_users_sync.sql",
    ),
}
