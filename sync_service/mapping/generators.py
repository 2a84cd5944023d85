"""Generators of keys for new rows, in the formats of the libraries with which applications make their keys.

ULID and CUID2 come from their libraries, which are imported on first use. nanoid's library for Python has had no
release since 2018, and CUID version 1 and UUID version 7 need a few lines each.
"""

import itertools
import os
import re
import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

Generator: TypeAlias = Callable[[], str]

# The time of a write. PostgreSQL supplies it, so it is no generator of texts.
NOW = "now"

NANOID_ALPHABET = "useandom-26T198340PX75pxJACKVERYMINDBUSHWOLF_GQZbfghjklqvwyzrict"
NANOID_LENGTH = 21
MAX_NANOID_LENGTH = 255

_BASE_36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_LENGTHS = {"uuid4": 36, "uuid7": 36, "ulid": 26, "cuid": 25, "cuid2": 24, "nanoid": NANOID_LENGTH}
_SPEC = re.compile(r"(?P<name>[a-z]+[0-9]?)(?:\((?P<length>[0-9]{1,3})\))?")
_TEMPLATE = re.compile(r"(?P<prefix>[^{}]*)\{(?P<spec>[^{}]+)\}(?P<suffix>[^{}]*)")

GENERATORS = (*_LENGTHS, NOW)


@dataclass(frozen=True, slots=True)
class KeyFormat:
    """The format of generated keys. `name` is the generator, `length` the number of all characters."""

    name: str
    length: int
    prefix: str = ""
    suffix: str = ""

    @property
    def is_uuid(self) -> bool:
        """Whether a column of the type uuid takes the keys."""
        return self.name in {"uuid4", "uuid7"} and not (self.prefix or self.suffix)

    def make_generator(self) -> Generator:
        """Return a function that returns a new key at each call."""
        if self.name == "nanoid":
            size = self.length - len(self.prefix) - len(self.suffix)
            generate: Generator = lambda: generate_nanoid(size)  # noqa: E731  a partial would not have this type
        else:
            generate = _GENERATORS[self.name]
        if not (self.prefix or self.suffix):
            return generate
        return lambda: f"{self.prefix}{generate()}{self.suffix}"


def parse_key_format(text: str) -> KeyFormat:
    """Return the format of `cuid2`, `nanoid(12)` or `usr_{nanoid}`. Raises `ValueError` with the end of a sentence."""
    template = _TEMPLATE.fullmatch(text)
    prefix, spec, suffix = template.groups() if template else ("", text, "")
    match = _SPEC.fullmatch(spec)
    if not match or match["name"] not in _LENGTHS:
        raise ValueError(f'is not one of {", ".join(GENERATORS)}, nor one with a prefix such as "usr_{{nanoid}}"')
    name, length = match["name"], _LENGTHS[match["name"]]
    if match["length"]:
        length = int(match["length"])
        if name != "nanoid" or not 2 <= length <= MAX_NANOID_LENGTH:
            raise ValueError(f"only nanoid takes a length, from 2 to {MAX_NANOID_LENGTH}")
    return KeyFormat(name, len(prefix) + length + len(suffix), prefix, suffix)


def generate_uuid7() -> str:
    """Return a UUID of version 7 (RFC 9562): 48 bits of the time in milliseconds, then random bits."""
    random = secrets.randbits(74)
    number = time.time_ns() // 1_000_000 << 80 | 7 << 76 | (random >> 62) << 64 | 2 << 62 | random & (1 << 62) - 1
    return str(uuid.UUID(int=number))


def generate_nanoid(size: int = NANOID_LENGTH) -> str:
    """Return a nanoid: six bits of each random byte select one of 64 letters."""
    return "".join(NANOID_ALPHABET[byte & 63] for byte in secrets.token_bytes(size))


def generate_cuid() -> str:
    """Return a CUID of version 1: `c`, the time, a counter, the process, and a random number, each in base 36."""
    milliseconds = _encode(time.time_ns() // 1_000_000, 8)
    counter, process = _encode(next(_counter), 4), _find_fingerprint(os.getpid())
    return f"c{milliseconds}{counter}{process}{_encode(secrets.randbelow(36**8), 8)}"


def _generate_cuid2() -> str:
    return _make_cuid2(os.getpid())()


def _generate_ulid() -> str:
    from ulid import ULID  # noqa: PLC0415  its import takes 50 ms, which only a mapping with ulid shall cost

    return str(ULID())


# The counter starts at random, as in the library of JavaScript.
_counter = itertools.count(secrets.randbelow(36**4))


@cache
def _make_cuid2(process: int) -> Generator:
    """Return the generator of this process: a forked process needs a fingerprint of its own."""
    from cuid2 import Cuid  # noqa: PLC0415  as above

    return Cuid().generate


@cache
def _find_fingerprint(process: int) -> str:
    """Return four characters: two of the process ID, two of the machine's name, as in the library of JavaScript."""
    name = os.uname().nodename
    machine = sum(map(ord, name)) + len(name) + 36
    return _encode(process, 2) + _encode(machine, 2)


def _encode(number: int, length: int) -> str:
    """Return the last digits of a number in base 36."""
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 36)
        digits.append(_BASE_36[digit])
    return "".join(reversed(digits))


_GENERATORS: dict[str, Generator] = {
    "uuid4": lambda: str(uuid.uuid4()),
    "uuid7": generate_uuid7,
    "ulid": _generate_ulid,
    "cuid": generate_cuid,
    "cuid2": _generate_cuid2,
}
