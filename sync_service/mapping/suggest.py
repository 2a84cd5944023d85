"""A table → the text of a `sync.toml` for it, every guess with its reason beside it (pure)."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence

from sync_service.mapping.presets import NOBODY, PRESETS
from sync_service.postgres.catalogue import Column, Table
from sync_service.postgres.conversion import TIMES
from sync_service.postgres.obstacles import SHORTEST_ID

# Names as they are compared: in small letters, without underscores. The likeliest first.
_TABLES = ("users", "user", "appusers", "appuser", "userssync", "accounts", "account", "profiles", "profile", "members")
_IDS = ("clerkid", "clerkuserid", "clerkuid", "clerk", "authid", "authuserid", "authproviderid", "userid", "uid")
_OWN_KEYS = ("id", "userid", "uid")

_TEXTS = {
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
_BOOLEANS = {
    "primary_email_verified": ("emailverified", "isemailverified"),
    "banned": ("banned", "isbanned"),
    "locked": ("locked", "islocked"),
}
_TIMES = {
    "last_sign_in_at": ("lastsigninat", "lastsignin", "lastloginat", "lastlogin", "lastloggedinat", "lastloggedin"),
    "last_active_at": ("lastactiveat", "lastactive", "lastseenat", "lastseen"),
    "created_at": ("createdat", "created", "createdon"),
    "updated_at": ("updatedat", "updated", "updatedon", "modifiedat"),
}
_DOCUMENTS = {
    "public_metadata": ("publicmetadata",),
    "$": ("rawjson", "clerkuser", "clerkdata", "clerkjson", "rawuser"),
}
_DELETED = ("deletedat", "deleted", "isdeleted", "deletedon")

_REMARKS = {
    "primary_phone": "null for whom Clerk has none; leave it out where the app fills it",
    "username": "null for whom Clerk has none; leave it out where the app fills it",
    "public_metadata": "whatever your backend keeps there",
    "$": "the whole user, but for private and unsafe metadata",
}
_NEVER_NULL = frozenset(
    {"primary_email_verified", "banned", "locked", "public_metadata", "created_at", "updated_at", "$"}
)


def likeliest(tables: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """Return the table, of schema and name, that probably holds the users."""
    known = [table for table in tables if _plain(table[1]) in _TABLES]
    return min(known, key=lambda t: (_TABLES.index(_plain(t[1])), t[0] != "public", t), default=None)


def id_column(table: Table) -> str | None:
    """Return the column that probably holds the Clerk ID, or could; None where the table has none."""
    named = [c for c in table.columns if _plain(c.name) in _IDS and _holds_id(c)]
    if named:
        return min(named, key=lambda column: _IDS.index(_plain(column.name))).name
    key = table.column(table.primary_key[0]) if len(table.primary_key) == 1 else None
    own = key and _plain(key.name) in _OWN_KEYS and _holds_id(key) and not key.has_default
    return key.name if own and key else None


def suggested(table: Table, clerk_id: str | None) -> str:
    """Return the text of a `sync.toml`; `clerk_id` is the column of the Clerk ID, None where one is to be added."""
    if (table.schema, table.name) == (PRESETS["neon_auth"].schema, PRESETS["neon_auth"].table):
        return _NEON
    return "\n".join([*_head(table, clerk_id), "", *_columns(table, clerk_id or "clerk_user_id")]) + "\n"


def _head(table: Table, clerk_id: str | None) -> Iterator[str]:
    yield f"# A guess at {table.schema}.{table.name}, by names and types. Read it, then run sync-service doctor."
    yield "[users]"
    yield f"table = {_text(f'{_part(table.schema)}.{_part(table.name)}')}"
    key = ", ".join(table.primary_key)
    if clerk_id is None:
        yield 'clerk_id = "clerk_user_id"  # not there yet: sync-service doctor prints the SQL that adds it'
    elif (clerk_id,) == table.primary_key:
        yield f"clerk_id = {_text(clerk_id)}  # the primary key is the Clerk ID itself"
    else:
        unique = "" if table.unique_on(clerk_id) else "; sync-service doctor prints its unique index, which is missing"
        yield f"clerk_id = {_text(clerk_id)}  # the app's own key stays{f': {key}' if key else ''}{unique}"
    deleted = next((c for c in table.columns if _plain(c.name) in _DELETED and _marks(c)), None)
    yield 'on_delete = "cascade"  # the row goes, and the foreign keys decide what goes with it'
    if deleted:
        yield '# on_delete = "soft"  # instead: the row stays and is marked, no foreign key cascades'
        yield f"# deleted_at = {_text(deleted.name)}"
    if (clerk_id,) != table.primary_key:
        yield "# link_by_verified_email = true  # adopt rows with the address and no Clerk ID: read the README first"


def _columns(table: Table, clerk_id: str) -> Iterator[str]:
    yield "[users.columns]"
    theirs = (clerk_id,) == table.primary_key
    taken: set[str] = set()
    left: list[str] = []
    for column in table.columns:
        if column.name == clerk_id:
            continue
        source = _source(column)
        if source is None or source in taken or column.generated or column.name in table.primary_key:
            left += _left(table, column)
        elif source in {"created_at", "updated_at"} and not theirs:
            left.append(
                f"# {column.name} ({column.type}): when the app's row was made or changed, which is the app's to say"
            )
        else:
            taken.add(source)
            yield _line(table, column, source)
    if left:
        yield ""
        yield "# Left to the app: never written on update, the default on insert."
        yield from left


def _line(table: Table, column: Column, source: str) -> str:
    remark = f"  # {_REMARKS[source]}" if source in _REMARKS else ""
    stand_in = _stand_in(table, column, source)
    if stand_in is None:
        return f"{_key(column.name)} = {_text(source)}{remark}"
    remark = remark or "  # NOT NULL, and not every user has one"
    return f"{_key(column.name)} = {{ from = {_text(source)}, when_null = {_text(stand_in)} }}{remark}"


def _stand_in(table: Table, column: Column, source: str) -> str | None:
    """Return what is to stand for null in a column that refuses it."""
    if not column.not_null or source in _NEVER_NULL:
        return None
    if source == "primary_email":
        return NOBODY
    if column.base in TIMES:
        return "1970-01-01T00:00:00Z"
    once = any(index.unique and column.name in index.keys for index in table.indexes)
    return "{clerk_id}" if once else ""


def _left(table: Table, column: Column) -> Iterator[str]:
    if column.generated:
        yield f"# {column.name} ({column.type}): generated"
    elif column.name in table.primary_key:
        yield f"# {column.name} ({column.type}): the app's key"
    elif column.not_null and not column.has_default:
        yield f"# {column.name} ({column.type}): NOT NULL without a default: no user can be inserted without, say,"
        yield f"# {_key(column.name)} = {{ constant = {_example(column)} }}"
    else:
        yield f"# {column.name} ({column.type})"


def _example(column: Column) -> str:
    if column.category == "B":
        return "false"
    if column.category == "N":
        return "0"
    if column.base in TIMES:
        return '"1970-01-01T00:00:00Z"'
    return _text(column.labels[0] if column.labels else "{}" if column.base in {"json", "jsonb"} else "")


def _source(column: Column) -> str | None:
    """Return what fills a column of that name and type."""
    name = _plain(column.name)
    if column.category == "S":
        known: dict[str, Sequence[str]] = dict(_TEXTS)
    elif column.category == "B":
        known = dict(_BOOLEANS)
    elif column.base in TIMES:
        known = dict(_TIMES)
    else:
        known = dict(_DOCUMENTS) if column.base in {"json", "jsonb"} else {}
    return next((source for source, names in known.items() if name in names), None)


def _holds_id(column: Column) -> bool:
    return column.category == "S" and (column.length is None or column.length >= SHORTEST_ID)


def _marks(column: Column) -> bool:
    return column.base in TIMES | {"bool"}


def _plain(name: str) -> str:
    return re.sub(r"[_\s-]", "", name).lower()


def _part(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if re.search(r'[."]', name) else name


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _text(text: str) -> str:
    # TOML's basic strings take what JSON's do.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


_NEON = """\
# The table of Neon Auth, as new or as Neon left it.
[users]
preset = "neon_auth"
"""
