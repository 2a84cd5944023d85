"""The source of a column by its name and type: which value of Clerk's user it shows (pure)."""

from collections.abc import Sequence

from sync_service.mapping.coercion import JSON_TYPES
from sync_service.mapping.introspection import Column
from sync_service.suggest.names import normalize, parse_words, split_words

# Names in the form of `normalize`, by the source of their values.
_TEXTS = {
    "primary_email": parse_words("email emailaddress emailaddr primaryemail mail mailaddress emailid mailid"),
    "primary_phone": parse_words(
        "phone phonenumber primaryphone mobile mobilenumber mobilephone telephone phoneno tel"
        " cell cellphone mobilephonenumber phonee164 contactphone contactnumber"
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
        " imgsrc avatarimg displaypicture profileavatar profileavatarurl"
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
_PERSON_NAMES = _TEXTS["first_name"] | _TEXTS["last_name"] | _TEXTS["username"] | {"fullname", "displayname"}
# Names that are complete only together.
_PAIRS = {"first_name": frozenset({"first", "given"}), "last_name": frozenset({"last", "family"})}
# First words of the addresses of a person. They are the login's where the table has no other one.
_CONTACTS = parse_words("contact work business personal private my")


def is_email_name(name: str) -> bool:
    """Return whether the column holds the address of the user's login, or another address of the user."""
    return _find_text_source(name) == "primary_email" or _is_contact(name)


def is_address(column: Column) -> bool:
    """Return whether the column holds an email, whoever's it is."""
    return column.category == "S" and _ends_as_email(column.name)


def is_person_name(name: str) -> bool:
    """Return whether the column holds a name of a person."""
    return normalize(name) in _PERSON_NAMES


def find_sources(columns: Sequence[Column]) -> dict[str, str]:
    """Return the sources that the columns of a table show, by column."""
    found = {column.name: source for column in columns if (source := _find_source(column))}
    others = [column.name for column in columns if column.category == "S" and column.name not in found]
    contact = next(filter(_is_contact, others), None)
    if contact and "primary_email" not in found.values():
        found[contact] = "primary_email"
    return found | _find_pair(others)


def _find_pair(names: Sequence[str]) -> dict[str, str]:
    """Return the sources of `first` and `last`; none if one of both is missing."""
    found = {name: source for name in names if (source := _find_by_name(_PAIRS, name))}
    return found if set(found.values()) == set(_PAIRS) else {}


def _ends_as_email(name: str) -> bool:
    words = split_words(name)
    return bool(words) and (words[-1] in {"email", "mail"} or words[-2:] in {("email", "address"), ("mail", "address")})


def _is_contact(name: str) -> bool:
    return _ends_as_email(name) and split_words(name)[0] in _CONTACTS


def _find_source(column: Column) -> str | None:
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
