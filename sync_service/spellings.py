"""One setting as people write it → its value (pure). What is wrong is said without the value."""

import base64
import binascii
import contextlib
import re
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import urlsplit

from sync_service.dsn import Dsn, clean_dsn

# Svix makes keys of 24 bytes. Its library takes one of a single byte; below 16 a key can be guessed.
SMALLEST_SECRET = 16

# PostgreSQL's calendar goes further, but who writes 999999999d has meant something else.
LONGEST = timedelta(days=36_525)

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Misspelt(Exception):
    """What is wrong with one setting, to be said after its name."""


def unquoted(text: str) -> str:
    """Return the text without blanks and quotes around it."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1].strip()
    return text


def database(text: str) -> Dsn:
    """Return the address of a database, made into one that connects."""
    try:
        return clean_dsn(text)
    except ValueError as error:
        raise Misspelt(str(error)) from None


def signing_secrets(text: str) -> tuple[str, ...]:
    """Return one secret or several, by commas or blanks."""
    return tuple(signing_secret(part) for part in re.split(r"[,\s'\"]+", text) if part)


def signing_secret(text: str) -> str:
    """Return the secret in the form that svix takes without surprises: `whsec_` and padded base64."""
    if text == "v1":
        raise Misspelt("starts with v1, as signatures do; paste the secret alone, it begins with whsec_")
    encoded = text.removeprefix("whsec_").rstrip("=")
    encoded += "=" * (-len(encoded) % 4)
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise Misspelt("is not a signing secret; it begins with whsec_ and goes on in base64") from None
    if len(key) < SMALLEST_SECRET:
        raise Misspelt(f"holds {len(key)} bytes and must hold at least {SMALLEST_SECRET}; copy it whole")
    return f"whsec_{encoded}"


def prefixed(prefix: str) -> Callable[[str], str]:
    """Take what begins like one of Clerk's keys or IDs."""

    def parse(text: str) -> str:
        if not re.fullmatch(re.escape(prefix) + r"[\w$.=-]+", text, re.ASCII):
            raise Misspelt(f"does not look right; it begins with {prefix}")
        return text

    return parse


def publishable_key(text: str) -> str:
    """Take a publishable key, which is the Frontend API's host in base64."""
    try:
        encoded = re.sub(r"^pk_(test|live)_", "", text)
        decoded = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True).decode()
    except ValueError:
        decoded = ""
    if not (encoded != text and re.fullmatch(r"[\w.-]+(:[0-9]+)?\$", decoded, re.ASCII)):
        raise Misspelt("does not look right; it begins with pk_ and holds an address; copy it whole")
    return text


def frontend_api(key: str) -> str:
    """Return the address of the Frontend API that a publishable key holds: the issuer of session tokens."""
    encoded = key.split("_", 2)[2]
    return "https://" + base64.b64decode(encoded + "=" * (-len(encoded) % 4)).decode().removesuffix("$")


def web_address(text: str) -> str:
    """Return an address without a slash at its end."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and not re.search(r"\s", text)
    except ValueError:
        good = False
    if not good:
        raise Misspelt("is not an address; it begins with https://")
    return text.rstrip("/")


def pem(text: str) -> str:
    r"""Return a public key as PEM, which a variable holds with `\n`, with blanks or with nothing between its lines."""
    text = text.replace("\\n", "\n")
    match = re.fullmatch(r"-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----", text)
    if match:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  slow, and seldom needed
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415  as above
        from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415  as above

        lines = "\n".join(re.findall(".{1,64}", re.sub(r"\s", "", match[1])))
        good = f"-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----"
        with contextlib.suppress(ValueError, UnsupportedAlgorithm):
            if isinstance(load_pem_public_key(good.encode()), RSAPublicKey):
                return good
    raise Misspelt("is not an RSA public key; paste the PEM from Clerk's dashboard, -----BEGIN PUBLIC KEY-----")


def parties(text: str) -> tuple[str, ...]:
    """Return what stands between commas or blanks."""
    return tuple(part for part in re.split(r"[,\s]+", text) if part)


def token(text: str) -> str:
    """Return a token that cannot be guessed."""
    if not re.fullmatch(r"[!-~]{16,}", text):
        raise Misspelt("must be at least 16 printable characters without blanks; `openssl rand -hex 32` makes one")
    return text


def host(text: str) -> str:
    """Return the name or address of a host."""
    if re.search(r"[\s/]", text):
        raise Misspelt("is not a host name or address")
    return text


def duration(text: str) -> timedelta:
    """Return a duration written as 90s, 15m, 24h or 30d."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if not match:
        raise Misspelt("is not a duration; write 90s, 15m, 24h or 30d")
    duration = timedelta(**{UNITS[match[2]]: int(match[1])})
    if duration > LONGEST:
        raise Misspelt("is longer than a hundred years")
    return duration


def whole(low: int, high: int) -> Callable[[str], int]:
    """Take a whole number in those bounds."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise Misspelt(f"is not a whole number from {low} to {high}")
        return int(text)

    return parse


def one_of(*words: str) -> Callable[[str], str]:
    """Take one of these words, in any case."""

    def parse(text: str) -> str:
        if text.lower() not in words:
            raise Misspelt(f"is not one of {', '.join(words)}")
        return text.lower()

    return parse
