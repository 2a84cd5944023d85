"""The environment, read once from a Mapping; every fault in one message, by name and never by value."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from sync_service import spellings
from sync_service.dsn import Dsn
from sync_service.errors import SettingsError
from sync_service.mapping.file import read_mapping
from sync_service.mapping.presets import DEFAULT
from sync_service.mapping.table import TableMapping
from sync_service.spellings import Misspelt, unquoted

T = TypeVar("T")

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
        except Misspelt as fault:
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
        database=get("DATABASE_URL", spellings.database, None),
        clerk_webhook_signing_secrets=get("CLERK_WEBHOOK_SIGNING_SECRET", spellings.signing_secrets, ()),
        clerk_secret_key=get("CLERK_SECRET_KEY", spellings.prefixed("sk_"), None),
        clerk_api_url=get("CLERK_API_URL", spellings.web_address, "https://api.clerk.com"),
        clerk_publishable_key=get("CLERK_PUBLISHABLE_KEY", spellings.publishable_key, None),
        clerk_jwt_key=get("CLERK_JWT_KEY", spellings.pem, None),
        clerk_jwks_url=get("CLERK_JWKS_URL", spellings.web_address, None),
        clerk_issuer=get("CLERK_ISSUER", spellings.web_address, None),
        clerk_authorized_parties=get("CLERK_AUTHORIZED_PARTIES", spellings.parties, ()),
        clerk_instance_id=get("CLERK_INSTANCE_ID", spellings.prefixed("ins_"), None),
        sync_api_token=get("SYNC_API_TOKEN", spellings.token, None),
        sync_ops_token=get("SYNC_OPS_TOKEN", spellings.token, None),
        mapping=mapping,
        sync_max_age=get("SYNC_MAX_AGE", spellings.duration, timedelta(hours=24)),
        sync_event_retention=get("SYNC_EVENT_RETENTION", spellings.duration, timedelta(days=30)),
        sync_max_attempts=get("SYNC_MAX_ATTEMPTS", spellings.whole(1, 1000), 10),
        port=get("PORT", spellings.whole(0, 65535), 8000),
        host=get("HOST", spellings.host, None),
        web_concurrency=get("WEB_CONCURRENCY", spellings.whole(1, 256), 1),
        log_level=get("LOG_LEVEL", spellings.one_of("debug", "info", "warning", "error"), "info"),
        log_format=get("LOG_FORMAT", spellings.one_of("json", "console"), None),
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
            raise Misspelt(f"set together with {name}_FILE; unset one of the two")
        try:
            text = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Misspelt(f"{name}_FILE names a file that cannot be read ({type(error).__name__})") from None
    return unquoted(text)


def _mapping(file: Path) -> TableMapping:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"cannot be read ({type(error).__name__})"]) from None
    return read_mapping(text)


def names() -> Iterator[str]:
    """Yield the name of every variable, in the contract's order."""
    for name in Settings.__dataclass_fields__:
        yield {
            "database": "DATABASE_URL",
            "clerk_webhook_signing_secrets": "CLERK_WEBHOOK_SIGNING_SECRET",
            "mapping": "SYNC_CONFIG",
        }.get(name, name.upper())
