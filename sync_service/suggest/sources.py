"""Columns that show a value of Clerk's user, by their names, types and rows (pure)."""

from sync_service.mapping.coercion import JSON_TYPES
from sync_service.mapping.introspection import Column
from sync_service.mapping.presets import PLACEHOLDER_EMAIL
from sync_service.mapping.validation import MIN_ID_LENGTH
from sync_service.suggest.evidence import Evidence
from sync_service.suggest.key_formats import choose_nanoid, fits
from sync_service.suggest.names import normalize, parse_words, split_words
from sync_service.suggest.rules import Decision, give_up, leave, write_once

# Names in the form of `normalize`, by the source of their values.
_TEXTS = {
    "primary_email": parse_words("email emailaddress emailaddr primaryemail mail mailaddress"),
    "primary_phone": parse_words(
        "phone phonenumber primaryphone mobile mobilenumber mobilephone telephone phoneno tel"
    ),
    "username": parse_words("username login loginname nickname handle screenname"),
    "first_name": parse_words("firstname givenname forename fname"),
    "last_name": parse_words("lastname familyname surname lname"),
    "full_name": parse_words("name fullname displayname realname completename"),
    "image_url": parse_words(
        "image imageurl imagesrc imageuri img imgurl avatar avatarurl avatarsrc avataruri avatarimage avatarimageurl"
        " picture pictureurl picturesrc photo photourl photosrc photouri profileimage profileimageurl profilepicture"
        " profilepictureurl profilepic profilepicurl profilephoto profilephotourl userimage userimageurl"
        " headshot portrait pic picurl picsrc profileimg profileimgurl avatarlink photolink imagelink thumbnailurl"
    ),
}
_FLAGS = {
    "primary_email_verified": parse_words("emailverified isemailverified emailisverified emailconfirmed"),
    "banned": parse_words("banned isbanned"),
    "locked": parse_words("locked islocked"),
}
_DOCUMENTS = {
    "public_metadata": parse_words("publicmetadata clerkpublicmetadata clerkmetadata"),
    "$": parse_words("rawjson clerkuser clerkdata clerkjson clerkraw rawuser clerkpayload"),
}
# First words of names such as `ownerEmail`. An address with another first word, such as `billing`, is not the login's.
_OWNERS = parse_words(
    "owner user account member customer client login auth clerk person profile primary main"
    " work staff employee personal"
)
_PERSONAL = frozenset({"username", "first_name", "last_name", "full_name", "primary_phone"})
_PERSON_NAMES = _TEXTS["first_name"] | _TEXTS["last_name"] | _TEXTS["username"] | {"fullname", "displayname"}

_KEEP = "null in Clerk keeps the app's value"


def is_email_name(name: str) -> bool:
    """Return whether the column holds the address of the user's login."""
    return _find_text_source(name) == "primary_email"


def is_person_name(name: str) -> bool:
    """Return whether the column holds a name of a person."""
    return normalize(name) in _PERSON_NAMES


def find_source(column: Column) -> str | None:
    """Return the source that a column of this name and type shows."""
    if column.category == "S":
        return _find_text_source(column.name)
    sources = _FLAGS if column.category == "B" else {}
    if column.base in JSON_TYPES:
        sources = _DOCUMENTS
    return _find_by_name(sources, column.name)


def _find_text_source(name: str) -> str | None:
    return _find_by_name(_TEXTS, name) or _find_by_words(split_words(name))


def _find_by_name(sources: dict[str, frozenset[str]], name: str) -> str | None:
    return next((source for source, names in sources.items() if normalize(name) in names), None)


def _find_by_words(words: tuple[str, ...]) -> str | None:
    """Return the source of a name such as `ownerEmail` or `user_first_name`."""
    if len(words) < 2 or words[0] not in _OWNERS:
        return None
    source = _find_by_name(_TEXTS, "".join(words[1:]))
    # `account_name` and `user_handle` may be names of other things.
    return source if source in {"primary_email", "primary_phone", "first_name", "last_name", "image_url"} else None


def decide_source(facts: Evidence, column: Column, source: str) -> Decision:
    """Return the rule for a column that shows this value of Clerk's user."""
    if source == "primary_email":
        return _decide_email(column)
    if source == "username":
        return _decide_username(facts, column)
    if source in {"banned", "locked"}:
        return _decide_flag(facts, column, source)
    if source in _PERSONAL:
        return _decide_personal(facts, column, source)
    if source == "image_url" and column.not_null:
        spec = {"from": source, "on_null": "keep"} if column.has_default else {"from": source, "when_null": ""}
        return Decision(spec, "NOT NULL")
    return Decision(source, _REMARKS.get(source, ""))


_REMARKS = {
    "public_metadata": "the metadata that your backend stores at Clerk",
    "$": "the whole user, without private and unsafe metadata",
}


def _decide_email(column: Column) -> Decision:
    if not column.not_null:
        return Decision("primary_email")
    fits = column.length is None or column.length >= MIN_ID_LENGTH + len("@users.invalid")
    when_null = PLACEHOLDER_EMAIL if fits else "{clerk_id}"
    return Decision({"from": "primary_email", "when_null": when_null}, "NOT NULL, but some users have no email")


def _decide_username(facts: Evidence, column: Column) -> Decision:
    if column.has_default:
        return leave("the default of the database names a new user, and the app may change it")
    if column.not_null:
        return _fill_username(facts, column)
    if normalize(column.name) == "username":
        return Decision({"from": "username", "on_null": "keep"}, _KEEP)
    return write_once({"from": "username"}, "later the app may change it")


def _fill_username(facts: Evidence, column: Column) -> Decision:
    if facts.list_checks(column.name) and fits("cuid2", column.length):
        # Small letters and digits, which most constraints permit.
        return write_once({"generate": "cuid2"}, "NOT NULL with a constraint; later the app may change it")
    if _fits_id(column):
        # The local part of an email is not unique.
        sources = "username" if facts.is_unique(column.name) else ["username", "email_local_part"]
        return write_once({"from": sources, "when_null": "{clerk_id}"}, "NOT NULL; later the app may change it")
    generator = choose_nanoid(column.length)
    if generator is None:
        return give_up("it is too short for a random value, and not every user has a username")
    return write_once({"generate": generator}, "NOT NULL, too short for a Clerk ID; later the app may change it")


def _decide_flag(facts: Evidence, column: Column, source: str) -> Decision:
    rows = facts.read_rows(column.name)
    if not (column.has_default or rows.labels.get("true")):
        return Decision(source)
    if not column.has_default and (column.not_null or rows.values == facts.rows):
        return write_once({"constant": False}, "the app writes it itself")
    return leave("the app writes it itself, and Clerk's state would overwrite it")


def _decide_personal(facts: Evidence, column: Column, source: str) -> Decision:
    if column.not_null and not column.has_default:
        when_null = _choose_when_null(facts, column)
        if when_null is None:
            return give_up("it is unique and too short for a Clerk ID, and not every user has a value")
        return Decision(
            {"from": source, "when_null": when_null, "on_null": "keep"}, f"NOT NULL in a new row; later {_KEEP}"
        )
    if column.not_null:
        return Decision({"from": source, "on_null": "keep"}, f"{_KEEP}, and the default of a new row")
    is_in_use = facts.read_rows(column.name).values > 0
    return Decision({"from": source, "on_null": "keep"}, _KEEP) if is_in_use else Decision(source)


def _choose_when_null(facts: Evidence, column: Column) -> str | None:
    """Return the value of a new row: an empty text, or the Clerk ID where an empty text may be refused."""
    is_unique = facts.is_unique(column.name)
    if not (is_unique or facts.list_checks(column.name)):
        return ""
    if _fits_id(column):
        return "{clerk_id}"
    return None if is_unique else ""


def _fits_id(column: Column) -> bool:
    return column.length is None or column.length >= MIN_ID_LENGTH
