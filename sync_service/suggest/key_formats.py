"""The generator whose keys have the format of existing keys (pure). Keys are read, compared and never printed."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile

from sync_service.mapping.generators import NANOID_LENGTH, parse_key_format

_FORMATS = {
    "uuid4": re.compile(r"(?i)[0-9a-f]{8}-[0-9a-f]{4}-[1-6][0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"),
    "uuid7": re.compile(r"(?i)[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"),
    "ulid": re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}"),
    "cuid": re.compile(r"c[0-9a-z]{24}"),
    "cuid2": re.compile(r"[a-z][0-9a-z]{23}"),
}
_NANOID = re.compile(r"[A-Za-z0-9_-]+")
_HEX_OR_DECIMAL = re.compile(r"[0-9a-f]+|[0-9A-F]+")
_PREFIX = re.compile(r"(?:[A-Za-z]{1,12}[_-]){1,3}")

# Shorter keys of one length are often words or numbers that a person chose.
MIN_NANOID_LENGTH = 8


def fits(generator: str, length: int | None) -> bool:
    """Return whether a text column of this length takes the generator's keys."""
    return length is None or parse_key_format(generator).length <= length


def choose_nanoid(length: int | None) -> str | None:
    """Return the generator of random texts for a column of this length; None if the column is too short for them."""
    if fits("nanoid", length):
        return "nanoid"
    return f"nanoid({length})" if length is not None and length >= MIN_NANOID_LENGTH else None


def find_generator(keys: Sequence[str]) -> str | None:
    """Return the generator of most of the keys, such as `cuid2` or `usr_{nanoid}`; None if no generator makes them."""
    if not keys:
        return None
    plain, prefixed = _find_plain(keys), _find_prefixed(keys)
    if len(set(keys)) > 1:
        return prefixed or plain
    # A single key does not show which part it shares with others, so only a usual format counts.
    return next((found for found in (plain, prefixed) if found and "(" not in found), plain)


def _find_prefixed(keys: Sequence[str]) -> str | None:
    """Return the generator of the part after a common start such as `usr_` or `sk_live_`."""
    pairs = zip(min(keys), max(keys), strict=False)
    match = _PREFIX.match("".join(first for first, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)))
    if not match:
        return None
    generator = _find_plain([key.removeprefix(match[0]) for key in keys])
    return f"{match[0]}{{{generator}}}" if generator else None


def _find_plain(keys: Sequence[str]) -> str | None:
    formats = Counter(name for key in keys if (name := _name_format(key)))
    if formats:
        name, count = formats.most_common(1)[0]
        return name if count * 2 > len(keys) else None
    return _find_nanoid(keys)


def _name_format(key: str) -> str | None:
    return next((name for name, pattern in _FORMATS.items() if pattern.fullmatch(key)), None)


def _find_nanoid(keys: Sequence[str]) -> str | None:
    """Return `nanoid` with its length if most keys have one length and the letters of a nanoid."""
    length, count = Counter(map(len, keys)).most_common(1)[0]
    if count * 2 <= len(keys) or length < MIN_NANOID_LENGTH:
        return None
    if not _are_random([key for key in keys if len(key) == length]):
        return None
    return "nanoid" if length == NANOID_LENGTH else f"nanoid({length})"


def _are_random(keys: Sequence[str]) -> bool:
    """Return whether the keys have the letters of nanoids, and are no words, numbers or hexadecimal numbers."""
    if all(map(_HEX_OR_DECIMAL.fullmatch, keys)):
        return False
    return all(map(_NANOID.fullmatch, keys)) and any(map(_is_mixed, keys))


def _is_mixed(key: str) -> bool:
    """Return whether letters and digits, or both cases, are mixed."""
    kinds = [any(map(kind, key)) for kind in (str.isdigit, str.islower, str.isupper)]
    return sum(kinds) > 1
