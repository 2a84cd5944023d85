"""Addresses as platforms print them."""

import pytest

from sync_service.dsn import clean_dsn


@pytest.mark.parametrize(
    ("printed", "cleaned", "dropped"),
    [
        # Heroku
        ("postgres://u:p@ec2-1.example.com:5432/db", "postgresql://u:p@ec2-1.example.com:5432/db", ()),
        # Neon
        (
            "postgresql://u:p@ep-x-pooler.eu.example.com/neondb?sslmode=require&channel_binding=require",
            "postgresql://u:p@ep-x-pooler.eu.example.com/neondb?sslmode=require",
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
        # A socket; several hosts
        ("postgresql:///db?host=/run/postgresql", "postgresql:///db?host=%2Frun%2Fpostgresql", ()),
        (
            "postgresql://u:p@a:1,b:2/db?target_session_attrs=primary",
            "postgresql://u:p@a:1,b:2/db?target_session_attrs=primary",
            (),
        ),
    ],
)
def test_an_address_is_cleaned(printed: str, cleaned: str, dropped: tuple[str, ...]) -> None:
    dsn = clean_dsn(printed)
    assert (dsn.url, dsn.dropped, dsn.transaction_pooler) == (cleaned, dropped, False)


def test_supabase_pooler_is_told_by_its_own_word() -> None:
    dsn = clean_dsn("postgres://u.ref:p@aws.pooler.example.com:6543/postgres?pgbouncer=true")
    assert dsn.transaction_pooler
    assert dsn.url == "postgresql://u.ref:p@aws.pooler.example.com:6543/postgres"


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
def test_what_is_no_address_is_refused_without_its_value(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"address|PostgreSQL") as raised:
        clean_dsn(wrong)
    assert "SENTINEL" not in str(raised.value)


def test_an_address_is_not_in_its_repr() -> None:
    assert "SECRET_SENTINEL" not in repr(clean_dsn("postgresql://u:SECRET_SENTINEL@h/db"))
