"""Suggest the text of a `sync.toml` for a table, with the reason beside each line (pure)."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from sync_service.mapping.coercion import JSON_TYPES, TIME_TYPES
from sync_service.mapping.computed_values import NEVER_NULL_SOURCES
from sync_service.mapping.introspection import Column, Table
from sync_service.mapping.presets import PLACEHOLDER_EMAIL, PRESETS
from sync_service.mapping.validation import MIN_ID_LENGTH

# Names in the form of `_normalize`: lower case, without underscores. The most probable name comes first.
_TABLE_NAMES = (
    "users",
    "user",
    "appusers",
    "appuser",
    "userssync",
    "accounts",
    "account",
    "profiles",
    "profile",
    "members",
)
_ID_NAMES = ("clerkid", "clerkuserid", "clerkuid", "clerk", "authid", "authuserid", "authproviderid", "userid", "uid")
_KEY_NAMES = ("id", "userid", "uid")

_TEXT_SOURCES = {
    "primary_email": ("email", "emailaddress", "primaryemail", "mail", "useremail"),
    "primary_phone": ("phone", "phonenumber", "primaryphone", "mobile", "mobilenumber", "telephone"),
    "username": ("username",),
    "first_name": ("firstname", "givenname", "forename", "fname"),
    "last_name": ("lastname", "familyname", "surname", "lname"),
    "full_name": ("name", "fullname", "displayname"),
    "image_url": (
        *("imageurl", "image", "avatarurl", "avatar", "pictureurl", "picture", "photourl", "photo"),
        *("profileimageurl", "profileimage", "profilepictureurl", "profilepicture", "profilepic"),
    ),
}
_BOOLEAN_SOURCES = {
    "primary_email_verified": ("emailverified", "isemailverified"),
    "banned": ("banned", "isbanned"),
    "locked": ("locked", "islocked"),
}
_TIME_SOURCES = {
    "last_sign_in_at": ("lastsigninat", "lastsignin", "lastloginat", "lastlogin", "lastloggedinat", "lastloggedin"),
    "last_active_at": ("lastactiveat", "lastactive", "lastseenat", "lastseen"),
    "created_at": ("createdat", "created", "createdon"),
    "updated_at": ("updatedat", "updated", "updatedon", "modifiedat"),
}
_JSON_SOURCES = {
    "public_metadata": ("publicmetadata",),
    "$": ("rawjson", "clerkuser", "clerkdata", "clerkjson", "rawuser"),
}
_DELETED_AT_NAMES = ("deletedat", "deleted", "isdeleted", "deletedon")

_REMARKS = {
    "primary_phone": "null for users without one; remove this line if the app fills the column",
    "username": "null for users without one; remove this line if the app fills the column",
    "public_metadata": "the metadata that your backend stores at Clerk",
    "$": "the whole user, without private and unsafe metadata",
}
_EPOCH = "1970-01-01T00:00:00Z"


def choose_users_table(tables: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """Return the table, as schema and name, that probably holds the users."""
    candidates = [table for table in tables if _normalize(table[1]) in _TABLE_NAMES]
    return min(candidates, key=_rank_table, default=None)


def _rank_table(table: tuple[str, str]) -> tuple[int, bool, tuple[str, str]]:
    schema, name = table
    return _TABLE_NAMES.index(_normalize(name)), schema != "public", table


def find_id_column(table: Table) -> str | None:
    """Return the column that probably holds the Clerk ID; None if no column can."""
    candidates = [c for c in table.columns if _normalize(c.name) in _ID_NAMES and _can_hold_id(c)]
    if candidates:
        return min(candidates, key=lambda column: _ID_NAMES.index(_normalize(column.name))).name
    return _find_id_key(table)


def _find_id_key(table: Table) -> str | None:
    """Return the primary key if it may be the Clerk ID. A key with a default is generated, so it is not."""
    key = table.column(table.primary_key[0]) if len(table.primary_key) == 1 else None
    if key is None or key.has_default:
        return None
    return key.name if _normalize(key.name) in _KEY_NAMES and _can_hold_id(key) else None


def suggest_mapping(table: Table, clerk_id: str | None) -> str:
    """Return the text of a `sync.toml`. `clerk_id` is the column of the Clerk ID; with None, a new column is named."""
    if (table.schema, table.name) == (PRESETS["neon_auth"].schema, PRESETS["neon_auth"].table):
        return _NEON_AUTH
    return "\n".join([*_write_head(table, clerk_id), "", *_write_columns(table, clerk_id or "clerk_user_id")]) + "\n"


def _write_head(table: Table, clerk_id: str | None) -> Iterator[str]:
    is_primary_key = (clerk_id,) == table.primary_key
    yield f"# Suggested for {table.schema}.{table.name} from column names and types."
    yield "# Check each line, then run sync-service doctor."
    yield "[users]"
    yield f"table = {_quote(f'{_quote_part(table.schema)}.{_quote_part(table.name)}')}"
    if clerk_id is None:
        yield 'clerk_id = "clerk_user_id"  # does not exist yet: sync-service doctor prints the SQL that adds it'
    elif is_primary_key:
        yield f"clerk_id = {_quote(clerk_id)}  # the primary key is the Clerk ID"
    else:
        yield f"clerk_id = {_quote(clerk_id)}  # {_describe_keys(table, clerk_id)}"
    yield 'on_delete = "cascade"  # deletes the row; foreign keys decide about the rows that refer to it'
    deleted_at = _find_deleted_at(table)
    if deleted_at:
        yield '# on_delete = "soft"  # alternative: keeps the row and marks it; no foreign key cascades'
        yield f"# deleted_at = {_quote(deleted_at.name)}"
    if not is_primary_key:
        yield "# link_by_verified_email = true  # links rows without a Clerk ID by email: read the README first"


def _describe_keys(table: Table, clerk_id: str) -> str:
    remark = "the app keeps its own key"
    if table.primary_key:
        remark += f": {', '.join(table.primary_key)}"
    if not table.is_unique_on(clerk_id):
        remark += "; a unique index is missing, sync-service doctor prints the SQL"
    return remark


def _find_deleted_at(table: Table) -> Column | None:
    for column in table.columns:
        if _normalize(column.name) in _DELETED_AT_NAMES and column.base in TIME_TYPES | {"bool"}:
            return column
    return None


def _write_columns(table: Table, clerk_id: str) -> Iterator[str]:
    yield "[users.columns]"
    used: set[str] = set()
    unmapped: list[str] = []
    for column in table.columns:
        if column.name == clerk_id:
            continue
        source = _find_source(column)
        if source is None or source in used or column.generated or column.name in table.primary_key:
            unmapped += _write_unmapped(table, column)
        elif source in {"created_at", "updated_at"} and _is_filled_by_app(table, column, clerk_id):
            unmapped.append(f"# {column.name} ({column.type}): a time of the app's row, not of Clerk's user")
        else:
            used.add(source)
            yield _write_mapped(table, column, source)
    if unmapped:
        yield ""
        yield "# Columns of the app: never written on update, left to their defaults on insert."
        yield from unmapped


def _is_filled_by_app(table: Table, column: Column, clerk_id: str) -> bool:
    """Return whether a time is the app's: its row has a key of its own, and an insert without the time succeeds."""
    return (clerk_id,) != table.primary_key and (column.has_default or not column.not_null)


def _write_mapped(table: Table, column: Column, source: str) -> str:
    key, remark = _quote_key(column.name), _REMARKS.get(source)
    when_null = _choose_when_null(table, column, source)
    if when_null is None:
        line = f"{key} = {_quote(source)}"
    else:
        line = f"{key} = {{ from = {_quote(source)}, when_null = {_quote(when_null)} }}"
        remark = remark or "NOT NULL, but some users have no value"
    return f"{line}  # {remark}" if remark else line


def _choose_when_null(table: Table, column: Column, source: str) -> str | None:
    """Return the replacement for null; None if the column accepts null or the source is never null."""
    if not column.not_null or source in NEVER_NULL_SOURCES:
        return None
    if source == "primary_email":
        return PLACEHOLDER_EMAIL
    if column.base in TIME_TYPES:
        return _EPOCH
    is_unique = any(index.unique and column.name in index.keys for index in table.indexes)
    return "{clerk_id}" if is_unique else ""


def _write_unmapped(table: Table, column: Column) -> Iterator[str]:
    if column.generated:
        yield f"# {column.name} ({column.type}): generated"
    elif column.name in table.primary_key:
        remark = "" if column.has_default else " without a default; sync-service doctor prints the SQL that adds one"
        yield f"# {column.name} ({column.type}): the app's key{remark}"
    elif column.not_null and not column.has_default:
        yield f"# {column.name} ({column.type}): NOT NULL without a default, so every insert needs a value, for example"
        yield f"# {_quote_key(column.name)} = {{ constant = {_write_example(column)} }}"
    else:
        yield f"# {column.name} ({column.type})"


def _write_example(column: Column) -> str:
    if column.category == "B":
        return "false"
    if column.category == "N":
        return "0"
    if column.base in TIME_TYPES:
        return _quote(_EPOCH)
    if column.labels:
        return _quote(column.labels[0])
    return _quote("{}" if column.base in JSON_TYPES else "")


def _find_source(column: Column) -> str | None:
    """Return the source that a column of this name and type probably shows."""
    name = _normalize(column.name)
    return next((source for source, names in _choose_sources(column).items() if name in names), None)


def _choose_sources(column: Column) -> Mapping[str, Sequence[str]]:
    """Return the sources that fit the column's type, with the usual names of their columns."""
    if column.category == "S":
        return _TEXT_SOURCES
    if column.category == "B":
        return _BOOLEAN_SOURCES
    if column.base in TIME_TYPES:
        return _TIME_SOURCES
    return _JSON_SOURCES if column.base in JSON_TYPES else {}


def _can_hold_id(column: Column) -> bool:
    return column.category == "S" and (column.length is None or column.length >= MIN_ID_LENGTH)


def _normalize(name: str) -> str:
    return re.sub(r"[_\s-]", "", name).lower()


def _quote_part(name: str) -> str:
    """Quote a schema or table name for the key `table`, if it needs quotes."""
    return '"' + name.replace('"', '""') + '"' if re.search(r'[."]', name) else name


def _quote_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quote(name)


def _quote(text: str) -> str:
    """Return a basic string of TOML. It has JSON_TYPES's syntax, except that TOML requires an escape for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


_NEON_AUTH = """\
# Neon Auth's table, with or without Neon's generated columns.
[users]
preset = "neon_auth"
"""
