"""Presets: complete mappings by name (pure). A preset ignores its columns that the table does not have."""

from collections.abc import Mapping
from dataclasses import replace

from sync_service.mapping.computed_values import WHOLE_USER
from sync_service.mapping.fields import FieldSource
from sync_service.mapping.table import TableMapping

# The built-in table. `migrate` creates it if it does not exist.
DEFAULT = TableMapping(
    id_column="id",
    columns={
        "email": FieldSource("primary_email"),
        "email_verified": FieldSource("primary_email_verified"),
        "phone": FieldSource("primary_phone"),
        "username": FieldSource("username"),
        "first_name": FieldSource("first_name"),
        "last_name": FieldSource("last_name"),
        "image_url": FieldSource("image_url"),
        "external_id": FieldSource("external_id"),
        "banned": FieldSource("banned"),
        "locked": FieldSource("locked"),
        "public_metadata": FieldSource("public_metadata"),
        "last_sign_in_at": FieldSource("last_sign_in_at"),
        "created_at": FieldSource("created_at"),
        "updated_at": FieldSource("updated_at"),
    },
    created_by="create_users.sql",
)

# A placeholder for tables that require an email. RFC 2606 reserves .invalid, so mail to it is never delivered.
PLACEHOLDER_EMAIL = "{clerk_id}@users.invalid"

_OPTIONAL = {name: replace(column, optional=True) for name, column in DEFAULT.columns.items()}
_OPTIONAL["email"] = FieldSource("primary_email", when_null=PLACEHOLDER_EMAIL, optional=True)

PRESETS: Mapping[str, TableMapping] = {
    # The Clerk ID is the primary key.
    "text_id": replace(DEFAULT, columns=_OPTIONAL),
    # The app has its own primary key of any type, and the Clerk ID in another column. It also writes its own row times.
    "integer_id": TableMapping(
        id_column="clerk_user_id",
        columns={name: column for name, column in _OPTIONAL.items() if name not in {"created_at", "updated_at"}},
    ),
    # Neon Auth's table. In a table that Neon created, the columns are generated from keys of raw_json.
    "neon_auth": TableMapping(
        schema="neon_auth",
        table="users_sync",
        id_column="id",
        columns={
            "raw_json": FieldSource(
                WHOLE_USER,
                extra_keys={
                    "display_name": "full_name",
                    "primary_email": "primary_email",
                    "signed_up_at_millis": "created_at",
                },
            ),
            "name": FieldSource("full_name", optional=True),
            "email": FieldSource("primary_email", optional=True),
            "created_at": FieldSource("created_at", optional=True),
            "updated_at": FieldSource("updated_at", optional=True),
        },
        on_delete="soft",
        deleted_at="deleted_at",
        created_by="create_neon_users_sync.sql",
    ),
}
