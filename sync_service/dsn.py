"""Convert a database URL, as Neon, Supabase and Heroku print it, into a DSN that asyncpg accepts (pure)."""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

SCHEMES = frozenset({"postgres", "postgresql", "postgresql+asyncpg", "postgres+asyncpg"})

# The parameters of asyncpg's `connect`, and the server settings that users commonly write into a URL. asyncpg sends any
# other parameter to the server as a setting, and the server then refuses the connection.
_SUPPORTED = """
    host port user password dbname database passfile service sslmode sslcert sslkey sslrootcert sslnegotiation
    sslcrl sslpassword ssl_min_protocol_version ssl_max_protocol_version target_session_attrs krbsrvname gsslib
    application_name options search_path timezone TimeZone
"""
SUPPORTED_PARAMETERS = frozenset(_SUPPORTED.split())
OWN_PARAMETERS = frozenset({"pgbouncer", "ssl", "port"})
TRUE_WORDS = frozenset({"true", "1", "yes", "on"})
FALSE_WORDS = frozenset({"false", "0", "no", "off"})

# SQLAlchemy and node-postgres write `ssl=true`; node-postgres also writes `sslmode=no-verify`. As in libpq, `require`
# verifies no certificate.
_SSL_MODES = dict.fromkeys(TRUE_WORDS, "require") | dict.fromkeys(FALSE_WORDS, "disable") | {"no-verify": "require"}

# A list of hosts stands in the query for asyncpg. As an authority, Python refuses it if it has an IPv6 address.
_HOST_LIST = re.compile(r"([^/?#]*//)([^/?#]*@)?([^/?#@]*,[^/?#@]*)([/?#].*)?", re.DOTALL)
_HOST_AND_PORT = re.compile(r"(\[[^]]*\]|[^:]+)(?::([0-9]*))?")
DEFAULT_PORT = "5432"
TARGETS_THAT_READ = frozenset({"standby", "prefer-standby", "read-only"})


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
    text, hosts = _take_host_list(text)
    parts, given = _split_url(text)
    given = hosts | given
    kept = _select_parameters(given, parts.netloc + given.get("host", ""))
    authority = _build_authority(parts, kept)
    path = "" if kept.keys() & {"dbname", "database"} else parts.path
    query = f"?{urlencode(kept)}" if kept else ""
    return Dsn(
        url=f"postgresql://{authority}{path}{query}",
        is_transaction_pooler=given.get("pgbouncer", "").lower() in TRUE_WORDS or _has_pooler_host(parts.netloc, hosts),
        ignored_parameters=tuple(sorted(given.keys() - kept.keys() - OWN_PARAMETERS)),
    )


def _take_host_list(text: str) -> tuple[str, dict[str, str]]:
    """Return the URL without a list of several hosts, and the list as the parameters `host` and `port`."""
    match = _HOST_LIST.fullmatch(text)
    if match is None:
        return text, {}
    scheme, login, hosts, rest = match.groups(default="")
    found = [_HOST_AND_PORT.fullmatch(entry) for entry in hosts.split(",")]
    if None in found:
        raise ValueError(
            "is not a valid URL: a list of hosts must look like host1:5432,host2:5432, an IPv6 address like [::1]:5432"
        )
    names, ports = zip(*(entry.groups(default="") for entry in found if entry), strict=True)
    taken = {"host": ",".join(map(unquote, names))}
    if any(ports):
        taken["port"] = ",".join(port or DEFAULT_PORT for port in ports)
    return f"{scheme}{login}{rest}", taken


def _split_url(text: str) -> tuple[SplitResult, dict[str, str]]:
    """Return the parts of the URL and its query parameters."""
    try:
        parts = urlsplit(text)
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


def _select_parameters(given: Mapping[str, str], netloc: str) -> dict[str, str]:
    """Return the parameters that asyncpg supports, in its spelling."""
    kept = {key: value for key, value in given.items() if key in SUPPORTED_PARAMETERS and value}
    mode = kept.get("sslmode") or given.get("ssl", "")
    if mode:
        kept["sslmode"] = _SSL_MODES.get(mode.lower(), mode.lower())
    if kept.get("sslrootcert") == "system":
        _use_system_certificates(kept)
    _select_server(kept)
    # Neon's proxy takes the endpoint for clients without SNI. asyncpg has SNI, and any other server refuses the option.
    if kept.get("options", "").startswith("endpoint=") and ".neon." not in netloc:
        del kept["options"]
    return kept


def _select_server(kept: dict[str, str]) -> None:
    """Ask for the primary server among several hosts: the service writes. asyncpg would take the first one."""
    if "," in kept.get("host", ""):
        kept["host"] = ",".join(map(_bracket_ipv6, kept["host"].split(",")))
        kept.setdefault("target_session_attrs", "read-write")
    if kept.get("target_session_attrs") in TARGETS_THAT_READ:
        raise ValueError("has a wrong target_session_attrs: the service writes, so it needs primary or read-write")


def _use_system_certificates(kept: dict[str, str]) -> None:
    """Replace `sslrootcert=system` by the file of OpenSSL, and verify the host name, as libpq does."""
    paths = ssl.get_default_verify_paths()
    kept["sslrootcert"] = paths.cafile or paths.openssl_cafile
    kept["sslmode"] = "verify-full"


def _build_authority(parts: SplitResult, kept: dict[str, str]) -> str:
    """Return user, password and hosts. As in libpq, the query takes precedence; asyncpg prefers the authority."""
    login, at, hosts = parts.netloc.rpartition("@")
    user, colon, password = login.partition(":")
    if "user" in kept:
        user = ""
    if "password" in kept:
        colon, password = "", ""
    return f"{user}{colon}{password}{at}{_build_hosts(hosts, parts, kept)}"


def _build_hosts(hosts: str, parts: SplitResult, kept: dict[str, str]) -> str:
    port = kept.pop("port", "") or str(parts.port or "")
    if "host" in kept or not parts.hostname:
        if port:
            kept["port"] = port
        return ""
    name = hosts if hosts.endswith("]") else hosts.rpartition(":")[0] or hosts
    return f"{name}:{port}" if port else name


def _bracket_ipv6(host: str) -> str:
    """Return the name of a host as asyncpg takes it. libpq takes an IPv6 address without brackets."""
    return f"[{host}]" if ":" in host and not host.startswith(("/", "[")) else host


def _has_pooler_host(netloc: str, several: Mapping[str, str]) -> bool:
    """Return whether a host is a transaction pooler by its platform's convention: Supabase's port, Neon's name."""
    hosts = [*several.get("host", "").split(","), netloc.rpartition("@")[2]]
    ports = several.get("port", "").split(",")
    names = [f"{host}:{port}" for host, port in zip(hosts, ports, strict=False)] + hosts
    return any(name.endswith(".pooler.supabase.com:6543") or "-pooler." in name for name in names)
