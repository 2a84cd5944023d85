"""Settings, read once from a mapping such as `os.environ`. One exception lists all errors, by name, never by value."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from sync_service import parsers
from sync_service.dsn import Dsn
from sync_service.dsn_check import check_dsn
from sync_service.errors import SettingsError
from sync_service.mapping.presets import DEFAULT
from sync_service.mapping.table import TableMapping
from sync_service.mapping.toml import parse_mapping
from sync_service.parsers import InvalidValue, strip_quotes

T = TypeVar("T")

# The mapping's file if SYNC_CONFIG is not set.
MAPPING_FILE = "sync.toml"

# Editors on Windows write a byte order mark, which nobody sees.
_UTF_8 = "utf-8-sig"


def _setting(parse: Callable[[str], T], default: T, *, secret: bool = False) -> T:
    """Return a field with its parser; a secret is not in `repr`."""
    return field(default=default, repr=not secret, metadata={"parse": parse})


def _parse_database_url(text: str) -> Dsn:
    dsn = parsers.parse_database_url(text)
    try:
        check_dsn(dsn)
    except ValueError as error:
        raise InvalidValue(str(error)) from None
    return dsn


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The operator's settings. Secrets are not in `repr`."""

    database: Dsn | None = _setting(_parse_database_url, None, secret=True)
    clerk_webhook_signing_secrets: tuple[str, ...] = _setting(parsers.parse_signing_secrets, (), secret=True)
    clerk_secret_key: str | None = _setting(parsers.make_prefix_parser("sk_"), None, secret=True)
    clerk_api_url: str = _setting(parsers.parse_url, "https://api.clerk.com")
    clerk_publishable_key: str | None = _setting(parsers.parse_publishable_key, None)
    clerk_jwt_key: str | None = _setting(parsers.parse_pem, None, secret=True)
    clerk_jwks_url: str | None = _setting(parsers.parse_url, None)
    clerk_issuer: str | None = _setting(parsers.parse_url, None)
    clerk_authorized_parties: tuple[str, ...] = _setting(parsers.parse_list, ())
    clerk_instance_id: str | None = _setting(parsers.make_prefix_parser("ins_"), None)
    sync_api_token: str | None = _setting(parsers.parse_api_token, None, secret=True)
    sync_ops_token: str | None = _setting(parsers.parse_api_token, None, secret=True)
    mapping: TableMapping = DEFAULT  # read from the file that SYNC_CONFIG names
    sync_max_age: timedelta = _setting(parsers.parse_duration, timedelta(hours=24))
    sync_event_retention: timedelta = _setting(parsers.parse_duration, timedelta(days=30))
    sync_max_attempts: int = _setting(parsers.make_integer_parser(1, 1000), 10)
    sync_reconcile_every: timedelta = _setting(parsers.parse_interval, timedelta(hours=24))
    sync_reconcile_recent_every: timedelta = _setting(parsers.parse_interval, timedelta())  # zero: never
    sync_notify_url: str | None = _setting(parsers.parse_exact_url, None)
    sync_notify_secret: tuple[str, ...] = _setting(parsers.parse_signing_secrets, (), secret=True)
    sync_max_token_lifetime: timedelta = _setting(parsers.parse_duration, timedelta(hours=24))
    sync_keep_alive: timedelta = _setting(parsers.parse_duration, timedelta(seconds=75))
    port: int = _setting(parsers.make_integer_parser(0, 65535), 8000)
    host: str | None = _setting(parsers.parse_host, None)  # None is 127.0.0.1 for `dev`, 0.0.0.0 for `serve`
    web_concurrency: int = _setting(parsers.make_integer_parser(1, 256), 1)
    log_level: str = _setting(parsers.make_choice_parser("debug", "info", "warning", "error"), "info")
    log_format: str | None = _setting(parsers.make_choice_parser("json", "console"), None)

    @property
    def issuer(self) -> str | None:
        """The issuer that a session token must have; None if no setting gives it.

        Without an issuer, the signature alone binds a token to the instance, because each key belongs to one instance.
        """
        if self.clerk_issuer:
            return self.clerk_issuer
        key = self.clerk_publishable_key
        return parsers.get_frontend_api_url(key) if key else None

    @property
    def jwks_url(self) -> str | None:
        """The URL of the key set for session tokens; None if no setting gives it."""
        if self.clerk_jwks_url:
            return self.clerk_jwks_url
        return f"{self.issuer}/.well-known/jwks.json" if self.issuer else None


_PARSED = [setting for setting in fields(Settings) if setting.metadata]


def read_settings(environ: Mapping[str, str], *, required: tuple[str, ...] = (), with_mapping: bool = True) -> Settings:
    """Return all settings. `required` lists the variables that the command needs.

    Without `with_mapping`, no mapping is read: the command is about to write one.
    Raises `SettingsError` with one sentence per error.
    """
    errors: list[str] = []
    given: set[str] = set()

    def get(name: str, parse: Callable[[str], T], default: T) -> T:
        try:
            text = _read_variable(environ, name)
            if not text:
                return default
            given.add(name)
            return parse(text)
        except InvalidValue as error:
            given.add(name)
            errors.append(f"{name}: {error}")
            return default

    mapping = DEFAULT
    default_file = Path(MAPPING_FILE) if Path(MAPPING_FILE).exists() else None
    if with_mapping and (file := get("SYNC_CONFIG", Path, default_file)):
        try:
            mapping = _read_mapping_file(file)
        except SettingsError as error:
            where = "" if "SYNC_CONFIG" in given else f"{MAPPING_FILE}: "
            errors += [f"SYNC_CONFIG: {where}{sentence}" for sentence in error.errors]
    values: dict[str, Any] = {
        setting.name: get(_get_variable(setting.name), setting.metadata["parse"], setting.default)
        for setting in _PARSED
    }
    errors += _list_missing(given, required)
    if errors:
        raise SettingsError(sorted(errors))
    settings = Settings(mapping=mapping, **values)
    return _with_notifications(settings) if settings.sync_notify_url else settings


def _list_missing(given: Collection[str], required: tuple[str, ...]) -> list[str]:
    needed = (*required, "SYNC_NOTIFY_SECRET") if "SYNC_NOTIFY_URL" in given else required
    return [f"{name}: not set; {_HINTS.get(name, 'this command needs it')}" for name in needed if name not in given]


def _with_notifications(settings: Settings) -> Settings:
    """Return the settings with a mapping that records each change for its delivery."""
    return replace(settings, mapping=settings.mapping.with_recording(notifies=True))


# The variables that `serve` needs.
REQUIRED_TO_SERVE = ("DATABASE_URL", "CLERK_WEBHOOK_SIGNING_SECRET")

_HINTS = {
    "DATABASE_URL": "the URL of your PostgreSQL database, postgresql://user:password@host/database;"
    " `sync-service dev` works without it, and commands in the same folder use its database while it runs",
    "CLERK_WEBHOOK_SIGNING_SECRET": "copy it from Clerk's dashboard: Configure, Webhooks, your endpoint,"
    " Signing Secret",
    "SYNC_NOTIFY_SECRET": "SYNC_NOTIFY_URL needs it; create one with"
    " `python -c \"import secrets, base64; print('whsec_' + base64.b64encode(secrets.token_bytes(24)).decode())\"`",
    "CLERK_SECRET_KEY": "copy it from Clerk's dashboard: Configure, API keys, Secret keys",
}


def _read_variable(environ: Mapping[str, str], name: str) -> str:
    """Return the variable's text, or the text of the file that `NAME_FILE` names, without blanks and quotes around."""
    text = environ.get(name, "")
    file = environ.get(f"{name}_FILE")
    if file:
        if text:
            raise InvalidValue(f"set together with {name}_FILE; unset one of them")
        try:
            text = Path(file).read_text(encoding=_UTF_8)
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidValue(f"{name}_FILE names a file that cannot be read ({type(error).__name__})") from None
    return strip_quotes(text)


def _read_mapping_file(file: Path) -> TableMapping:
    try:
        text = file.read_text(encoding=_UTF_8)
    except OSError as error:
        raise SettingsError([f"cannot be read ({type(error).__name__})"]) from None
    except UnicodeDecodeError:
        raise SettingsError(["is not UTF-8; save it with this encoding"]) from None
    return parse_mapping(text)


def iter_setting_names() -> Iterator[str]:
    """Yield the name of each environment variable, in the order of the fields of `Settings`."""
    return (_get_variable(setting.name) for setting in fields(Settings))


def _get_variable(name: str) -> str:
    return _VARIABLES.get(name, name.upper())


# The variables whose name is not that of the field.
_VARIABLES = {
    "database": "DATABASE_URL",
    "clerk_webhook_signing_secrets": "CLERK_WEBHOOK_SIGNING_SECRET",
    "mapping": "SYNC_CONFIG",
}
