"""Parsers: the text of one setting in, its value out (pure). An error message never contains the text."""

import base64
import binascii
import contextlib
import re
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import urlsplit

from sync_service.dsn import Dsn, parse_dsn

# Svix generates keys of 24 bytes. Its library accepts even one byte, but a key below 16 bytes can be guessed.
MIN_SECRET_BYTES = 16

# PostgreSQL could store more, but a duration such as 999999999d is a typing error.
MAX_DURATION = timedelta(days=36_525)

DURATION_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class InvalidValue(Exception):
    """The text of a setting is invalid. The message continues after the name of the setting."""


def strip_quotes(text: str) -> str:
    """Return the text without surrounding blanks and quotes."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1].strip()
    return text


def parse_database_url(text: str) -> Dsn:
    """Return the DSN of a database URL."""
    try:
        return parse_dsn(text)
    except ValueError as error:
        raise InvalidValue(str(error)) from None


def parse_signing_secrets(text: str) -> tuple[str, ...]:
    """Return the secrets of a list that commas or blanks separate."""
    return tuple(parse_signing_secret(part) for part in _split_list(text, r"[,\s'\"]+"))


def parse_signing_secret(text: str) -> str:
    """Return the secret in its canonical form, which svix always accepts: `whsec_` and padded base64."""
    if text == "v1":
        raise InvalidValue("begins with v1 like a signature; paste only the secret, which begins with whsec_")
    encoded = text.removeprefix("whsec_").rstrip("=")
    encoded += "=" * (-len(encoded) % 4)
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidValue("is not a signing secret; a secret is whsec_ followed by base64") from None
    if len(key) < MIN_SECRET_BYTES:
        raise InvalidValue(f"has {len(key)} bytes and needs at least {MIN_SECRET_BYTES}; copy the whole secret")
    return f"whsec_{encoded}"


def make_prefix_parser(prefix: str) -> Callable[[str], str]:
    """Return a parser for a key or ID of Clerk that begins with `prefix`."""

    def parse(text: str) -> str:
        if not re.fullmatch(re.escape(prefix) + r"[\w$.=-]+", text, re.ASCII):
            raise InvalidValue(f"is not valid; it must begin with {prefix}")
        return text

    return parse


def parse_publishable_key(text: str) -> str:
    """Return a publishable key, after a check of the Frontend API's host that it contains in base64."""
    try:
        encoded = re.sub(r"^pk_(test|live)_", "", text)
        decoded = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True).decode()
    except ValueError:
        decoded = ""
    if not (encoded != text and re.fullmatch(r"[\w.-]+(:[0-9]+)?\$", decoded, re.ASCII)):
        raise InvalidValue("is not valid; it must begin with pk_ and contain a host name; copy the whole key")
    return text


def get_frontend_api_url(key: str) -> str:
    """Return the Frontend API's URL from a publishable key. It is also the issuer of session tokens."""
    encoded = key.split("_", 2)[2]
    return "https://" + base64.b64decode(encoded + "=" * (-len(encoded) % 4)).decode().removesuffix("$")


def parse_url(text: str) -> str:
    """Return an HTTP URL without its final slash."""
    return parse_exact_url(text).rstrip("/")


def parse_exact_url(text: str) -> str:
    """Return an HTTP URL as it is."""
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises the error of a port that is no number, or too large
        is_valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and not re.search(r"\s", text)
    except ValueError:
        is_valid = False
    if not is_valid:
        raise InvalidValue("is not a URL; it must begin with https:// or http://")
    return text


def parse_pem(text: str) -> str:
    r"""Return an RSA public key as PEM.

    Environment variables often lose line breaks: `\n`, blanks and no separator at all are accepted between the lines.
    """
    text = text.replace("\\n", "\n")
    match = re.fullmatch(r"-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----", text)
    if match:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  a slow import that is rarely needed
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415  as above
        from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415  as above

        lines = "\n".join(re.findall(".{1,64}", re.sub(r"\s", "", match[1])))
        canonical = f"-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----"
        with contextlib.suppress(ValueError, UnsupportedAlgorithm):
            if isinstance(load_pem_public_key(canonical.encode()), RSAPublicKey):
                return canonical
    raise InvalidValue(
        "is not an RSA public key; paste the PEM from Clerk's dashboard, including -----BEGIN PUBLIC KEY-----"
    )


def parse_list(text: str) -> tuple[str, ...]:
    """Return the entries of a list that commas or blanks separate."""
    return tuple(_split_list(text, r"[,\s]+"))


def _split_list(text: str, separators: str) -> list[str]:
    # Without this check, a lone comma would start `serve` without a secret, or allow every party.
    if entries := [part for part in re.split(separators, text) if part]:
        return entries
    raise InvalidValue("has no entry; a comma stands only between two values")


def parse_api_token(text: str) -> str:
    """Return an API token, after a check that it is too long to guess."""
    if not re.fullmatch(r"[!-~]{16,}", text):
        raise InvalidValue("must be at least 16 printable characters without blanks; `openssl rand -hex 32` makes one")
    return text


def parse_host(text: str) -> str:
    """Return a host name or an IP address."""
    if re.search(r"[\s/]", text):
        raise InvalidValue("is not a host name or IP address")
    return re.sub(r"\[(.*)\]", r"\1", text)  # an IPv6 address as in a URL


def parse_duration(text: str) -> timedelta:
    """Return a duration written as 90s, 15m, 24h or 30d."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if not match:
        raise InvalidValue("is not a duration; write 90s, 15m, 24h or 30d")
    duration = timedelta(**{DURATION_UNITS[match[2]]: int(match[1])})
    if duration > MAX_DURATION:
        raise InvalidValue("is longer than a hundred years")
    return duration


def parse_interval(text: str) -> timedelta:
    """Return a duration. 0 is the interval of work that never runs."""
    return timedelta() if text == "0" else parse_duration(text)


def make_integer_parser(low: int, high: int) -> Callable[[str], int]:
    """Return a parser for a whole number from `low` to `high`."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise InvalidValue(f"is not a whole number from {low} to {high}")
        return int(text)

    return parse


def make_choice_parser(*words: str) -> Callable[[str], str]:
    """Return a parser for one of the words, which ignores case."""

    def parse(text: str) -> str:
        if text.lower() not in words:
            raise InvalidValue(f"is not one of {', '.join(words)}")
        return text.lower()

    return parse
