"""The environment, read once from a Mapping; every fault in one message, by name and never by value."""

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from sync_service.dsn import Dsn, clean_dsn
from sync_service.durations import read_duration
from sync_service.errors import SettingsError
from sync_service.mapping.file import read_mapping
from sync_service.mapping.presets import DEFAULT
from sync_service.mapping.table import TableMapping

T = TypeVar("T")

# Svix makes keys of 24 bytes. Its library takes one of a single byte; below 16 a key can be guessed.
SMALLEST_SECRET = 16

# Where the mapping is looked for when nothing names it.
MAPPING_FILE = "sync.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the owner decided. Secrets stay out of `repr`."""

    database: Dsn | None = field(default=None, repr=False)
    clerk_webhook_signing_secrets: tuple[str, ...] = field(default=(), repr=False)
    clerk_secret_key: str | None = field(default=None, repr=False)
    clerk_api_url: str = "https://api.clerk.com"
    clerk_publishable_key: str | None = None
    clerk_jwt_key: str | None = field(default=None, repr=False)
    clerk_jwks_url: str | None = None
    clerk_issuer: str | None = None
    clerk_authorized_parties: tuple[str, ...] = ()
    clerk_instance_id: str | None = None
    sync_api_token: str | None = field(default=None, repr=False)
    sync_ops_token: str | None = field(default=None, repr=False)
    mapping: TableMapping = DEFAULT  # of SYNC_CONFIG
    sync_max_age: timedelta = timedelta(hours=24)
    sync_event_retention: timedelta = timedelta(days=30)
    sync_max_attempts: int = 10
    port: int = 8000
    host: str | None = None  # 127.0.0.1 for `dev`, 0.0.0.0 for `serve`
    web_concurrency: int = 1
    log_level: str = "info"
    log_format: str | None = None


class _Fault(Exception):
    """What is wrong with one setting, to be said after its name."""


def read_settings(environ: Mapping[str, str], *, required: tuple[str, ...] = ()) -> Settings:
    """Read everything that CONTRACT's environment names; `required` lists what the command cannot do without.

    Raises `SettingsError` with one sentence for every fault.
    """
    faults: list[str] = []
    seen: dict[str, str] = {}

    def get(name: str, parse: Callable[[str], T], default: T) -> T:
        try:
            text = _text(environ, name)
            if not text:
                return default
            seen[name] = text
            return parse(text)
        except _Fault as fault:
            seen[name] = ""
            faults.append(f"{name}: {fault}")
            return default

    mapping = DEFAULT
    if config := get("SYNC_CONFIG", Path, Path(MAPPING_FILE) if Path(MAPPING_FILE).exists() else None):
        try:
            mapping = _mapping(config)
        except SettingsError as error:
            where = "" if "SYNC_CONFIG" in seen else f"{MAPPING_FILE}: "
            faults += [f"SYNC_CONFIG: {where}{fault}" for fault in error.faults]
    settings = Settings(
        database=get("DATABASE_URL", _database, None),
        clerk_webhook_signing_secrets=get("CLERK_WEBHOOK_SIGNING_SECRET", _signing_secrets, ()),
        clerk_secret_key=get("CLERK_SECRET_KEY", _prefixed("sk_"), None),
        clerk_api_url=get("CLERK_API_URL", _web_address, "https://api.clerk.com"),
        clerk_publishable_key=get("CLERK_PUBLISHABLE_KEY", _prefixed("pk_"), None),
        clerk_jwt_key=get("CLERK_JWT_KEY", _pem, None),
        clerk_jwks_url=get("CLERK_JWKS_URL", _web_address, None),
        clerk_issuer=get("CLERK_ISSUER", _web_address, None),
        clerk_authorized_parties=get("CLERK_AUTHORIZED_PARTIES", _parties, ()),
        clerk_instance_id=get("CLERK_INSTANCE_ID", _prefixed("ins_"), None),
        sync_api_token=get("SYNC_API_TOKEN", _token, None),
        sync_ops_token=get("SYNC_OPS_TOKEN", _token, None),
        mapping=mapping,
        sync_max_age=get("SYNC_MAX_AGE", _duration, timedelta(hours=24)),
        sync_event_retention=get("SYNC_EVENT_RETENTION", _duration, timedelta(days=30)),
        sync_max_attempts=get("SYNC_MAX_ATTEMPTS", _whole(1, 1000), 10),
        port=get("PORT", _whole(0, 65535), 8000),
        host=get("HOST", _host, None),
        web_concurrency=get("WEB_CONCURRENCY", _whole(1, 256), 1),
        log_level=get("LOG_LEVEL", _one_of("debug", "info", "warning", "error"), "info"),
        log_format=get("LOG_FORMAT", _one_of("json", "console"), None),
    )
    faults += [f"{name}: not set; {_WHERE.get(name, 'this command needs it')}" for name in required if name not in seen]
    if faults:
        raise SettingsError(sorted(faults))
    return settings


# What `serve` cannot do without.
TO_SERVE = ("DATABASE_URL", "CLERK_WEBHOOK_SIGNING_SECRET")

_WHERE = {
    "DATABASE_URL": "the address of your PostgreSQL, postgresql://user:password@host/database;"
    " `sync-service dev` needs none, and while it runs, commands in its folder use its database",
    "CLERK_WEBHOOK_SIGNING_SECRET": "copy it from Clerk's dashboard: Configure, Webhooks, your endpoint,"
    " Signing Secret",
}


def _text(environ: Mapping[str, str], name: str) -> str:
    """Return the setting without blanks and quotes around it; `NAME_FILE` names a file that holds it."""
    text = environ.get(name, "")
    file = environ.get(f"{name}_FILE")
    if file:
        if text:
            raise _Fault(f"set together with {name}_FILE; unset one of the two")
        try:
            text = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise _Fault(f"{name}_FILE names a file that cannot be read ({type(error).__name__})") from None
    return _unquoted(text)


def _unquoted(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1].strip()
    return text


def _database(text: str) -> Dsn:
    try:
        return clean_dsn(text)
    except ValueError as error:
        raise _Fault(str(error)) from None


def _signing_secrets(text: str) -> tuple[str, ...]:
    return tuple(_signing_secret(part) for part in re.split(r"[,\s'\"]+", text) if part)


def _signing_secret(text: str) -> str:
    """Return the secret in the form that svix takes without surprises: `whsec_` and padded base64."""
    if text == "v1":
        raise _Fault("starts with v1, as signatures do; paste the secret alone, it begins with whsec_")
    encoded = text.removeprefix("whsec_").rstrip("=")
    encoded += "=" * (-len(encoded) % 4)
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise _Fault("is not a signing secret; it begins with whsec_ and goes on in base64") from None
    if len(key) < SMALLEST_SECRET:
        raise _Fault(f"holds {len(key)} bytes and must hold at least {SMALLEST_SECRET}; copy it whole")
    return f"whsec_{encoded}"


def _prefixed(prefix: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(re.escape(prefix) + r"[\w$.=-]+", text, re.ASCII):
            raise _Fault(f"does not look right; it begins with {prefix}")
        return text

    return parse


def _web_address(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and not re.search(r"\s", text)
    except ValueError:
        good = False
    if not good:
        raise _Fault("is not an address; it begins with https://")
    return text.rstrip("/")


def _pem(text: str) -> str:
    # A variable often holds the two characters \n where the PEM has an end of line.
    text = text.replace("\\n", "\n")
    if not re.match(r"-----BEGIN [A-Z ]*PUBLIC KEY-----", text):
        raise _Fault("is not a public key; paste the PEM from Clerk's dashboard, -----BEGIN PUBLIC KEY-----")
    return text


def _parties(text: str) -> tuple[str, ...]:
    return tuple(part for part in re.split(r"[,\s]+", text) if part)


def _token(text: str) -> str:
    if not re.fullmatch(r"[!-~]{16,}", text):
        raise _Fault("must be at least 16 printable characters without blanks; `openssl rand -hex 32` makes one")
    return text


def _host(text: str) -> str:
    if re.search(r"[\s/]", text):
        raise _Fault("is not a host name or address")
    return text


# Better no start than writing to another table than the owner says.


def _mapping(file: Path) -> TableMapping:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"cannot be read ({type(error).__name__})"]) from None
    return read_mapping(text)


def _duration(text: str) -> timedelta:
    try:
        return read_duration(text)
    except ValueError as error:
        raise _Fault(str(error)) from None


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise _Fault(f"is not a whole number from {low} to {high}")
        return int(text)

    return parse


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in words:
            raise _Fault(f"is not one of {', '.join(words)}")
        return text.lower()

    return parse


def names() -> Iterator[str]:
    """Yield the name of every variable, in the contract's order."""
    for name in Settings.__dataclass_fields__:
        yield {
            "database": "DATABASE_URL",
            "clerk_webhook_signing_secrets": "CLERK_WEBHOOK_SIGNING_SECRET",
            "mapping": "SYNC_CONFIG",
        }.get(name, name.upper())
