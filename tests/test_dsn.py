"""DSNs in the forms that hosting platforms print."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import trustme

from sync_service.dev.binaries import find_all_binaries
from sync_service.dev.embedded import run_embedded_postgres
from sync_service.dsn import parse_dsn
from sync_service.dsn_check import check_dsn, list_addresses
from sync_service.errors import SettingsError
from sync_service.parsers import parse_database_url
from sync_service.settings import read_settings
from tests.processes import reserve_port, run_here

# embedded-postgres is built without TLS, Debian's PostgreSQL with TLS.
WITH_TLS = [place for place in find_all_binaries() if place.is_relative_to("/usr/lib/postgresql")]


@pytest.mark.parametrize(
    ("printed", "cleaned", "dropped"),
    [
        # Heroku
        ("postgres://u:p@ec2-1.example.com:5432/db", "postgresql://u:p@ec2-1.example.com:5432/db", ()),
        # Neon
        (
            "postgresql://u:p@ep-x.eu.example.com/neondb?sslmode=require&channel_binding=require",
            "postgresql://u:p@ep-x.eu.example.com/neondb?sslmode=require",
            ("channel_binding",),
        ),
        # Prisma's additions
        (
            "postgresql://u:p@h/db?schema=public&connection_limit=1&connect_timeout=10",
            "postgresql://u:p@h/db",
            ("connect_timeout", "connection_limit", "schema"),
        ),
        # SQLAlchemy
        ("postgresql+asyncpg://u:p@h/db?ssl=require", "postgresql://u:p@h/db?sslmode=require", ()),
        # A socket
        ("postgresql:///db?host=/run/postgresql", "postgresql:///db?host=%2Frun%2Fpostgresql", ()),
    ],
)
def test_a_dsn_is_normalised(printed: str, cleaned: str, dropped: tuple[str, ...]) -> None:
    dsn = parse_dsn(printed)
    assert (dsn.url, dsn.ignored_parameters, dsn.is_transaction_pooler) == (cleaned, dropped, False)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("h/db?sslmode=no-verify", "h/db?sslmode=require"),
        ("h/db?ssl=no-verify", "h/db?sslmode=require"),
        ("h/db?ssl=false", "h/db?sslmode=disable"),
        ("h/db?ssl=0", "h/db?sslmode=disable"),
        ("h/db?sslmode=Disable", "h/db?sslmode=disable"),
        ("h/db?options=endpoint%3Dep-x", "h/db"),
        ("ep-x.eu.neon.tech/db?options=endpoint%3Dep-x", "ep-x.eu.neon.tech/db?options=endpoint%3Dep-x"),
        ("h/db?options=-c%20geqo%3Doff", "h/db?options=-c+geqo%3Doff"),
        # The query takes precedence, as in libpq.
        ("localhost/db?host=/cloudsql/p:r:i", "/db?host=%2Fcloudsql%2Fp%3Ar%3Ai"),
        ("localhost:6543/db?host=/cloudsql/p:r:i", "/db?host=%2Fcloudsql%2Fp%3Ar%3Ai&port=6543"),
        ("h:5432/db?port=6543", "h:6543/db"),
        ("[::1]:5432/db?port=6543", "[::1]:6543/db"),
        ("h/db?dbname=other", "h?dbname=other"),
    ],
)
def test_a_url_for_libpq_or_node_means_the_same_here(given: str, url: str) -> None:
    """Asyncpg refused these URLs, or connected to another server."""
    parsed = parse_database_url(f"postgresql://u:p@{given}")
    assert (parsed.url, parsed.ignored_parameters) == (
        f"postgresql://u:p@{url}",
        ("options",) * ("endpoint" in given and "neon" not in given),
    )


@pytest.mark.parametrize(
    ("given", "addresses"),
    [
        ("a:1,b:2/db?target_session_attrs=primary", [("a", 1), ("b", 2)]),
        ("a,b:2/db", [("a", 5432), ("b", 2)]),
        ("a,b/db?sslmode=require&channel_binding=require", [("a", 5432), ("b", 5432)]),
        ("a:1,b:2/db?port=6432", [("a", 6432), ("b", 6432)]),
        ("a:1,b:2/db?port=3,4", [("a", 3), ("b", 4)]),
        ("a:1,b:2/db?host=c,d", [("c", 1), ("d", 2)]),
        ("a/db?host=c,d&port=1,2", [("c", 1), ("d", 2)]),
        ("[::1]:1,b/db", [("::1", 1), ("b", 5432)]),
        ("b,[::1]/db", [("b", 5432), ("::1", 5432)]),
        ("/db?host=::1,fe80::1", [("::1", 5432), ("fe80::1", 5432)]),
        ("%2Frun%2Fa,b/db", [("/run/a/.s.PGSQL.5432", 5432), ("b", 5432)]),
    ],
)
def test_a_list_of_hosts_means_the_same_as_for_libpq(given: str, addresses: list[tuple[str, int]]) -> None:
    dsn = parse_dsn(f"postgresql://u,x:p%2Cq%40@{given}")
    check_dsn(dsn)
    assert list_addresses(dsn.url) == addresses
    assert parse_qs(urlsplit(dsn.url).query)["target_session_attrs"] in (["primary"], ["read-write"])
    assert dsn.url.startswith("postgresql://u,x:p%2Cq%40@/db")


@pytest.mark.parametrize("hosts", ["a,,b", "a:x,b", "a,[::1", ",", "a,b:1:2"])
def test_a_wrong_list_of_hosts_is_refused(hosts: str) -> None:
    with pytest.raises(SettingsError, match="list of hosts"):
        read_settings({"DATABASE_URL": f"postgresql://u:SECRET_SENTINEL@{hosts}/db"})


def test_the_system_s_certificates_verify_the_host() -> None:
    url = parse_database_url("postgresql://h/db?sslmode=require&sslrootcert=system").url
    assert "sslmode=verify-full" in url
    assert "sslrootcert=system" not in url


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("sslmode=sometimes", "sslmode"),
        ("sslmode=verify-full", "sslmode"),
        ("sslmode=verify-ca", "sslmode"),
        ("sslmode=verify-full&sslrootcert=/nowhere", "sslrootcert"),
        ("sslmode=require&sslrootcert=/nowhere", "sslrootcert"),
        ("sslmode=require&sslcert=/nowhere", "sslcert"),
        ("sslmode=require&sslcrl=/nowhere", "sslcrl"),
        ("sslmode=require&ssl_min_protocol_version=SSLv9", "ssl_min_protocol_version"),
        ("target_session_attrs=somewhere", "target_session_attrs"),
        ("sslnegotiation=perhaps", "sslnegotiation"),
        ("port=x", "port"),
        ("host=a,,b", "host"),
        ("host=a,b,c&port=1,2", "port"),
        ("target_session_attrs=standby", "target_session_attrs"),
        ("target_session_attrs=prefer-standby", "target_session_attrs"),
    ],
)
def test_a_wrong_key_of_the_url_is_named(query: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`serve` started with it and answered 503 for ever."""
    monkeypatch.setenv("HOME", "/nowhere")  # without ~/.postgresql/root.crt
    with pytest.raises(SettingsError) as raised:
        read_settings({"DATABASE_URL": f"postgresql://u:p@h/db?{query}"})
    [error] = raised.value.errors
    assert error.startswith("DATABASE_URL: ")
    assert key in error


def test_a_supabase_pooler_is_recognised_by_its_parameter() -> None:
    dsn = parse_dsn("postgres://u.ref:p@aws.pooler.example.com:6543/postgres?pgbouncer=true")
    assert dsn.is_transaction_pooler
    assert dsn.url == "postgresql://u.ref:p@aws.pooler.example.com:6543/postgres"


@pytest.mark.parametrize(
    ("printed", "pooler"),
    [
        ("postgresql://u:p@ep-x-pooler.eu.example.com/neondb", True),
        ("postgres://u.ref:p@aws-0-eu.pooler.supabase.com:6543/postgres", True),
        ("postgres://u.ref:p@aws-0-eu.pooler.supabase.com:5432/postgres", False),  # port 5432 is the session mode
        ("postgres://u:p@h:6543/db?pgbouncer=true", True),
        ("postgres://u:p@h:6543/db", False),
        ("postgres://u:p@a,b/db?pgbouncer=true", True),
        ("postgres://u:p@a.pooler.supabase.com:5432,b.pooler.supabase.com:6543/db", True),
        ("postgres://u:p@ep-x.eu.example.com,ep-x-pooler.eu.example.com/db", True),
    ],
)
def test_a_transaction_pooler_is_recognised_by_host_or_parameter(printed: str, pooler: bool) -> None:
    """The platform's host name or `pgbouncer=true` identifies a transaction pooler (DB1, DB2)."""
    assert parse_dsn(printed).is_transaction_pooler is pooler


@pytest.mark.parametrize(
    "wrong",
    [
        "mysql://u:SECRET_SENTINEL@h/db",
        "u:SECRET_SENTINEL@h/db",
        "postgresql://u:SECRET_SENTINEL#x@h/db",
        "postgresql://u:[SECRET_SENTINEL]@h/db",
        "postgresql://u:SECRET_SENTINEL@h:port/db",
        "postgresql://u:SECRET_SENTINEL@h/db?broken",
    ],
)
def test_an_invalid_dsn_is_refused_without_its_value(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"URL") as raised:
        parse_dsn(wrong)
    assert "SENTINEL" not in str(raised.value)


def test_a_dsn_s_repr_has_no_password() -> None:
    assert "SECRET_SENTINEL" not in repr(parse_dsn("postgresql://u:SECRET_SENTINEL@h/db"))


@pytest.fixture(scope="module")
def tls_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server that accepts connections with TLS only."""
    if not WITH_TLS:
        pytest.skip("no PostgreSQL with TLS is here")
    folder = tmp_path_factory.mktemp("tls")
    data = folder / "postgres"
    with run_embedded_postgres(data, binaries=WITH_TLS[0]):
        pass
    issued = trustme.CA().issue_cert("127.0.0.1")
    certificate, key = data / "server.pem", data / "server.key"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    key.chmod(0o600)
    if os.geteuid() == 0:
        for file in (certificate, key):
            os.chown(file, data.stat().st_uid, data.stat().st_gid)
    port = reserve_port()
    tls = {"ssl": "on", "ssl_cert_file": certificate.name, "ssl_key_file": key.name}
    listen = {"listen_addresses": "127.0.0.1", "port": str(port)}
    (data / "pg_hba.conf").write_text("local all all trust\nhostssl all all 127.0.0.1/32 trust\n")
    with run_embedded_postgres(data, binaries=WITH_TLS[0], settings=tls | listen):
        yield port


@pytest.mark.parametrize(
    "printed",
    [
        "postgres://postgres:secret@127.0.0.1:{port}/postgres?sslmode=require",
        "postgresql://postgres:secret@127.0.0.1:{port}/postgres?sslmode=require&channel_binding=require",
        "postgres://postgres:secret@127.0.0.1:{port}/postgres?pgbouncer=true&connection_limit=1",
        "postgresql+asyncpg://postgres:secret@127.0.0.1:{port}/postgres?ssl=require",
        "postgres://postgres:secret@127.0.0.1:{port}/postgres",
    ],
    ids=["plain", "neon", "supabase", "sqlalchemy", "heroku"],
)
def test_a_dsn_as_printed_connects_over_tls(tmp_path: Path, tls_port: int, printed: str) -> None:
    done = run_here("migrate", cwd=tmp_path, DATABASE_URL=printed.format(port=tls_port))
    assert done.returncode == 0
    assert "up to date" in done.stdout
