"""A database address as Neon, Supabase and Heroku print it, made into one that asyncpg takes (pure)."""

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit

SCHEMES = frozenset({"postgres", "postgresql", "postgresql+asyncpg", "postgres+asyncpg"})

# asyncpg's own parameters (its `connect` page), and the server's settings that people do put into an address.
# Whatever else is there, asyncpg would send to the server as a setting, which refuses the connection.
_KNOWN = """
    host port user password dbname database passfile service sslmode sslcert sslkey sslrootcert sslnegotiation
    sslcrl sslpassword ssl_min_protocol_version ssl_max_protocol_version target_session_attrs krbsrvname gsslib
    application_name options search_path timezone TimeZone
"""
KNOWN = frozenset(_KNOWN.split())
MEANT_FOR_US = frozenset({"pgbouncer", "ssl"})
YES = frozenset({"true", "1", "yes", "on"})


@dataclass(frozen=True, slots=True)
class Dsn:
    """`url` is for asyncpg; `dropped` names the keys that were left out, for the log."""

    url: str = field(repr=False)
    transaction_pooler: bool = False
    dropped: tuple[str, ...] = ()


def clean_dsn(text: str) -> Dsn:
    """Read an address.

    Raises `ValueError` with a sentence that follows the variable's name and tells nothing of the value.
    """
    try:
        parts = urlsplit(text)
        _ = parts.port if "," not in parts.netloc else None
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError(
            "cannot be read as an address; write postgresql://user:password@host:5432/database, with %-escapes"
            " for : / ? # [ ] @ in the password, and no [YOUR-PASSWORD] left in it"
        ) from None
    if parts.scheme not in SCHEMES:
        raise ValueError("is not the address of a PostgreSQL; it begins with postgresql://")
    given = dict(query)
    kept = {key: value for key, value in given.items() if key in KNOWN and value}
    # SQLAlchemy's spelling for asyncpg, `?ssl=require`.
    if "ssl" in given and "sslmode" not in kept:
        kept["sslmode"] = "require" if given["ssl"].lower() in YES else given["ssl"]
    return Dsn(
        url=f"postgresql://{parts.netloc}{parts.path}" + (f"?{urlencode(kept)}" if kept else ""),
        transaction_pooler=given.get("pgbouncer", "").lower() in YES or _known_pooler(parts.netloc),
        dropped=tuple(sorted(given.keys() - kept.keys() - MEANT_FOR_US)),
    )


def _known_pooler(netloc: str) -> bool:
    """Return whether it is a transaction pooler by its platform's convention: Supabase's port, Neon's host."""
    host = netloc.rpartition("@")[2]
    return host.endswith(".pooler.supabase.com:6543") or "-pooler." in host
