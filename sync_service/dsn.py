"""Convert a database URL, as Neon, Supabase and Heroku print it, into a DSN that asyncpg accepts (pure)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

SCHEMES = frozenset({"postgres", "postgresql", "postgresql+asyncpg", "postgres+asyncpg"})

# The parameters of asyncpg's `connect`, and the server settings that users commonly write into a URL. asyncpg sends any
# other parameter to the server as a setting, and the server then refuses the connection.
_SUPPORTED = """
    host port user password dbname database passfile service sslmode sslcert sslkey sslrootcert sslnegotiation
    sslcrl sslpassword ssl_min_protocol_version ssl_max_protocol_version target_session_attrs krbsrvname gsslib
    application_name options search_path timezone TimeZone
"""
SUPPORTED_PARAMETERS = frozenset(_SUPPORTED.split())
OWN_PARAMETERS = frozenset({"pgbouncer", "ssl"})
TRUE_WORDS = frozenset({"true", "1", "yes", "on"})


@dataclass(frozen=True, slots=True)
class Dsn:
    """`url` is for asyncpg. `ignored_parameters` are the names of ignored parameters, for the log."""

    url: str = field(repr=False)
    is_transaction_pooler: bool = False
    ignored_parameters: tuple[str, ...] = ()


def parse_dsn(text: str) -> Dsn:
    """Return the DSN of a database URL.

    Raises `ValueError`. Its message continues after the name of the setting and does not contain the value.
    """
    parts, given = _split_url(text)
    kept = _select_parameters(given)
    query = f"?{urlencode(kept)}" if kept else ""
    return Dsn(
        url=f"postgresql://{parts.netloc}{parts.path}{query}",
        is_transaction_pooler=given.get("pgbouncer", "").lower() in TRUE_WORDS or _is_pooler_host(parts.netloc),
        ignored_parameters=tuple(sorted(given.keys() - kept.keys() - OWN_PARAMETERS)),
    )


def _split_url(text: str) -> tuple[SplitResult, dict[str, str]]:
    """Return the parts of the URL and its query parameters."""
    try:
        parts = urlsplit(text)
        if "," not in parts.netloc:  # several hosts have several ports
            _ = parts.port
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError(
            "is not a valid URL; write postgresql://user:password@host:5432/database, with %-escapes"
            " for : / ? # [ ] @ in the password, and replace [YOUR-PASSWORD]"
        ) from None
    if parts.scheme not in SCHEMES:
        raise ValueError("is not a PostgreSQL URL; it must begin with postgresql://")
    return parts, dict(query)


def _select_parameters(given: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters that asyncpg supports."""
    kept = {key: value for key, value in given.items() if key in SUPPORTED_PARAMETERS and value}
    # SQLAlchemy writes `?ssl=require` for asyncpg.
    if "ssl" in given and "sslmode" not in kept:
        kept["sslmode"] = "require" if given["ssl"].lower() in TRUE_WORDS else given["ssl"]
    return kept


def _is_pooler_host(netloc: str) -> bool:
    """Return whether the host is a transaction pooler by its platform's convention: Supabase's port, Neon's name."""
    host = netloc.rpartition("@")[2]
    return host.endswith(".pooler.supabase.com:6543") or "-pooler." in host
