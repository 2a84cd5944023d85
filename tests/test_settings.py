"""The environment: accepted values, refused values, and error messages without the values."""

from datetime import timedelta
from pathlib import Path

import pytest

from sync_service.errors import SettingsError
from sync_service.mapping.presets import DEFAULT
from sync_service.settings import Settings, iter_setting_names, read_settings
from tests.clerk_stub import export_public_key

GOOD = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"


def read_errors(environ: dict[str, str], *required: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as raised:
        read_settings(environ, required=required)
    for value in environ.values():
        assert len(value) < 9 or value not in str(raised.value)
    return raised.value.errors


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = read_settings({})
    assert settings == Settings()
    assert settings.clerk_api_url == "https://api.clerk.com"
    assert settings.sync_max_age == timedelta(hours=24)
    assert settings.sync_event_retention == timedelta(days=30)
    assert (settings.sync_max_attempts, settings.port, settings.web_concurrency) == (10, 8000, 1)
    assert settings.database is None
    assert settings.clerk_webhook_signing_secrets == ()


def test_every_setting_is_read() -> None:
    settings = read_settings(
        {
            "DATABASE_URL": "postgres://u:p@h/db",
            "CLERK_WEBHOOK_SIGNING_SECRET": f"{GOOD}, {GOOD}",
            "CLERK_SECRET_KEY": "sk_test_abc",
            "CLERK_API_URL": "http://127.0.0.1:9/",
            "CLERK_PUBLISHABLE_KEY": "pk_test_Y2xlcmsuZXhhbXBsZS5jb20k",
            "CLERK_JWT_KEY": export_public_key(),
            "CLERK_JWKS_URL": "https://clerk.example.com/.well-known/jwks.json",
            "CLERK_ISSUER": "https://clerk.example.com",
            "CLERK_AUTHORIZED_PARTIES": "https://a.example.com,https://b.example.com",
            "CLERK_INSTANCE_ID": "ins_abc",
            "SYNC_API_TOKEN": "0123456789abcdef",
            "SYNC_OPS_TOKEN": "0123456789abcdef",
            "SYNC_MAX_AGE": "90s",
            "SYNC_EVENT_RETENTION": "15m",
            "SYNC_MAX_ATTEMPTS": "3",
            "SYNC_RECONCILE_EVERY": "0",
            "SYNC_RECONCILE_RECENT_EVERY": "5m",
            "SYNC_MAX_TOKEN_LIFETIME": "2h",
            "SYNC_KEEP_ALIVE": "11m",
            "PORT": "80",
            "HOST": "::1",
            "WEB_CONCURRENCY": "2",
            "LOG_LEVEL": "DEBUG",
            "LOG_FORMAT": "console",
        }
    )
    assert settings.clerk_webhook_signing_secrets == (GOOD, GOOD)
    assert settings.clerk_jwt_key == export_public_key().strip()
    assert settings.clerk_api_url == "http://127.0.0.1:9"
    assert settings.clerk_authorized_parties == ("https://a.example.com", "https://b.example.com")
    assert settings.sync_max_age == timedelta(seconds=90)
    assert settings.sync_event_retention == timedelta(minutes=15)
    assert settings.sync_reconcile_every == timedelta()
    assert settings.sync_reconcile_recent_every == timedelta(minutes=5)
    assert settings.sync_max_token_lifetime == timedelta(hours=2)
    assert settings.sync_keep_alive == timedelta(minutes=11)
    assert (settings.host, settings.port, settings.log_level, settings.log_format) == ("::1", 80, "debug", "console")


@pytest.mark.parametrize("between", ["\n", "\\n", " ", "", "\r\n"])
def test_a_public_key_may_lack_line_breaks(between: str) -> None:
    environ = {"CLERK_JWT_KEY": export_public_key().strip().replace("\n", between)}
    assert read_settings(environ).clerk_jwt_key == export_public_key().strip()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("CLERK_JWT_KEY", "-----BEGIN PUBLIC KEY-----\nMIIBSENTINEL\n-----END PUBLIC KEY-----"),
        ("CLERK_JWT_KEY", "-----BEGIN PUBLIC KEY-----\n=\n-----END PUBLIC KEY-----"),
        ("CLERK_PUBLISHABLE_KEY", "pk_test_SENTINEL"),
        ("CLERK_PUBLISHABLE_KEY", "pk_test_"),
        ("CLERK_PUBLISHABLE_KEY", "pk_Y2xlcmsuZXhhbXBsZS5jb20k"),
    ],
)
def test_an_invalid_key_is_reported(name: str, wrong: str) -> None:
    """The error is reported at the start instead of at the first login."""
    [error] = read_errors({name: wrong})
    assert error.startswith(f"{name}: ")


@pytest.mark.parametrize("around", [" {}", '"{}"', "'{}'", "{}\n", '" {} "', "{}=="])
def test_blanks_and_quotes_around_a_secret_are_removed(around: str) -> None:
    """A secret copied with blanks, quotes or a line break around it is accepted (B9)."""
    environ = {"CLERK_WEBHOOK_SIGNING_SECRET": around.format(GOOD)}
    assert read_settings(environ).clerk_webhook_signing_secrets == (GOOD,)


@pytest.mark.parametrize("separator", [",", " ", ", ", "\n", '","'])
def test_several_secrets_are_read(separator: str) -> None:
    other = "whsec_b3RoZXItb3RoZXItb3RoZXItb3RoZXI="
    environ = {"CLERK_WEBHOOK_SIGNING_SECRET": f"{GOOD}{separator}{other}"}
    assert read_settings(environ).clerk_webhook_signing_secrets == (GOOD, other)


@pytest.mark.parametrize(
    "wrong",
    [
        "sk_test_SECRETSENTINELSECRETSENTINEL",
        "v1,whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3",
        "whsec_!!!!SECRETSENTINEL!!!!",
        "whsec_MDEyMzQ1Njc4OWFiY2Rl",  # 15 bytes
        "whsec_abc",
        "whsec_",
        "whsec_MY_VOICE_IS_MY_PASSPORT_VERIFY_ME",
        "whsec_\u00e9\u00e9\u00e9\u00e9",
    ],
)
def test_an_invalid_secret_is_an_error_without_its_value(wrong: str) -> None:
    """A secret in a wrong format or shorter than 16 bytes is refused (B9); svix accepts short ones."""
    [error] = read_errors({"CLERK_WEBHOOK_SIGNING_SECRET": wrong})
    assert error.startswith("CLERK_WEBHOOK_SIGNING_SECRET: ")


@pytest.mark.parametrize("empty", [{}, {"CLERK_WEBHOOK_SIGNING_SECRET": ""}, {"CLERK_WEBHOOK_SIGNING_SECRET": ' "" '}])
def test_a_missing_secret_is_reported(empty: dict[str, str]) -> None:
    """An unset or empty signing secret is an error that iter_setting_names the variable (B8)."""
    [error] = read_errors(empty, "CLERK_WEBHOOK_SIGNING_SECRET")
    assert error.startswith("CLERK_WEBHOOK_SIGNING_SECRET: not set")


def test_all_errors_are_reported_together() -> None:
    errors = read_errors(
        {
            "DATABASE_URL": "mysql://SENTINEL",
            "PORT": "99999",
            "SYNC_MAX_AGE": "1 day",
            "SYNC_EVENT_RETENTION": "999999999d",
            "SYNC_MAX_ATTEMPTS": "0",
            "WEB_CONCURRENCY": "-1",
            "LOG_LEVEL": "SENTINEL",
            "LOG_FORMAT": "xml",
            "CLERK_SECRET_KEY": "pk_test_x",
            "CLERK_PUBLISHABLE_KEY": "sk_test_x",
            "CLERK_API_URL": "api.clerk.com",
            "CLERK_JWKS_URL": "https://",
            "CLERK_JWT_KEY": "MIIB",
            "CLERK_INSTANCE_ID": "production",
            "SYNC_API_TOKEN": "short",
            "SYNC_OPS_TOKEN": "with blanks in between it",
            "HOST": "http://h",
        },
        "CLERK_WEBHOOK_SIGNING_SECRET",
    )
    assert len(errors) == 18
    assert len({error.partition(":")[0] for error in errors}) == 18


def test_the_mapping_is_read_from_the_named_file_or_sync_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_settings({}).mapping is DEFAULT
    (tmp_path / "my.toml").write_text('[users]\npreset = "integer_id"')
    assert read_settings({"SYNC_CONFIG": "my.toml"}).mapping.id_column == "clerk_user_id"
    (tmp_path / "sync.toml").write_text('[users]\npreset = "neon_auth"')
    assert read_settings({}).mapping.name == "neon_auth.users_sync"


def test_errors_of_the_mapping_are_reported_with_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an ignored mapping the service would write to a table that the owner did not name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sync.toml").write_text('[users]\non_delete = "soft"\ndelete_grace = "a week"')
    assert read_errors({"PORT": "x"}) == (
        "PORT: is not a whole number from 0 to 65535",
        "SYNC_CONFIG: sync.toml: users.delete_grace: is not a duration; write 90s, 15m, 24h or 30d",
        (
            'SYNC_CONFIG: sync.toml: users.deleted_at: not set; on_delete = "soft" needs a column to mark the row,'
            " or [users.deleted]"
        ),
    )
    assert read_errors({"SYNC_CONFIG": "missing.toml"}) == ("SYNC_CONFIG: cannot be read (FileNotFoundError)",)


def test_a_setting_can_be_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{GOOD}\n")
    environ = {"CLERK_WEBHOOK_SIGNING_SECRET_FILE": str(file)}
    assert read_settings(environ, required=("CLERK_WEBHOOK_SIGNING_SECRET",)).clerk_webhook_signing_secrets == (GOOD,)


def test_an_unreadable_file_is_reported(tmp_path: Path) -> None:
    [error] = read_errors({"SYNC_OPS_TOKEN_FILE": str(tmp_path / "nowhere")}, "SYNC_OPS_TOKEN")
    assert "SYNC_OPS_TOKEN_FILE names a file that cannot be read" in error


def test_a_setting_and_its_file_together_are_refused(tmp_path: Path) -> None:
    [error] = read_errors({"SYNC_API_TOKEN": "0123456789abcdef", "SYNC_API_TOKEN_FILE": str(tmp_path / "x")})
    assert error.startswith("SYNC_API_TOKEN: set together with SYNC_API_TOKEN_FILE")


def test_secrets_are_not_in_the_repr() -> None:
    environ = dict.fromkeys(("SYNC_API_TOKEN", "SYNC_OPS_TOKEN"), "SECRETSENTINEL-0123")
    environ |= {"CLERK_SECRET_KEY": "sk_test_SENTINEL", "CLERK_WEBHOOK_SIGNING_SECRET": GOOD}
    text = repr(read_settings(environ))
    assert "SENTINEL" not in text
    assert GOOD not in text


def test_there_are_27_settings() -> None:
    assert len(list(iter_setting_names())) == 27


def test_an_empty_mapping_never_selects_the_default_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mapping suggest > sync.toml` has emptied the file before it starts, so it reads none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sync.toml").write_text("")
    [error] = read_errors({})
    assert error.startswith("SYNC_CONFIG: sync.toml: has no entry; ")
    [error] = read_errors({"SYNC_CONFIG": "/dev/null"})
    assert error.startswith("SYNC_CONFIG: has no entry; ")
    assert read_settings({}, with_mapping=False).mapping == DEFAULT


@pytest.mark.parametrize("name", ["CLERK_WEBHOOK_SIGNING_SECRET", "SYNC_NOTIFY_SECRET", "CLERK_AUTHORIZED_PARTIES"])
@pytest.mark.parametrize("text", [",", " , ,", '","'])
def test_a_list_of_separators_is_refused(name: str, text: str) -> None:
    """It would start the service without a secret, or allow every party."""
    [error] = read_errors({name: text})
    assert error.startswith(f"{name}: has no entry")


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    """Editors on Windows write it, and it is invisible."""
    secret, mapping = tmp_path / "secret", tmp_path / "sync.toml"
    secret.write_text(GOOD, encoding="utf-8-sig")
    mapping.write_text("preset = 'text_id'", encoding="utf-8-sig")
    settings = read_settings({"CLERK_WEBHOOK_SIGNING_SECRET_FILE": str(secret), "SYNC_CONFIG": str(mapping)})
    assert settings.clerk_webhook_signing_secrets == (GOOD,)
    mapping.write_text("preset = 'text_id'", encoding="utf-16")
    assert read_errors({"SYNC_CONFIG": str(mapping)}) == ("SYNC_CONFIG: is not UTF-8; save it with this encoding",)
