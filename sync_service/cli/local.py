"""`.sync-service/`: what `dev` keeps in the working folder, and how other commands find it."""

import base64
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from sync_service.dsn import Dsn
from sync_service.postgres.embedded import running
from sync_service.settings import Settings, read_settings

FOLDER = Path(".sync-service")
DATA = FOLDER / "postgres"
SECRET = FOLDER / "signing-secret"


def settings_or_dev(environ: Mapping[str, str], *required: str) -> Settings:
    """Read the settings, taking from a running `dev` in this folder what the environment does not say.

    Raises `SettingsError`.
    """
    return read_settings(environ_or_dev(environ), required=required)


def environ_or_dev(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment, with what a running `dev` in this folder has for what it does not say."""
    filled = dict(environ)
    if not _said(environ, "DATABASE_URL") and (server := running(DATA)):
        filled["DATABASE_URL"] = server.dsn()
    if not _said(environ, "CLERK_WEBHOOK_SIGNING_SECRET") and SECRET.exists():
        filled["CLERK_WEBHOOK_SIGNING_SECRET"] = SECRET.read_text(encoding="utf-8")
    return filled


def database_or_dev(environ: Mapping[str, str]) -> Dsn:
    """Return the database of the environment, else that of a running `dev` here. Raises `SettingsError`."""
    database = settings_or_dev(environ, "DATABASE_URL").database
    assert database  # noqa: S101  required
    return database


def signing_secret() -> str:
    """Return `dev`'s own signing secret, made on first use and readable by its owner alone."""
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    if not SECRET.exists():
        made = SECRET.with_suffix(f".{os.getpid()}")
        made.touch(mode=0o600)
        made.write_text(f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}\n", encoding="utf-8")
        made.replace(SECRET)
    return SECRET.read_text(encoding="utf-8").strip()


def _said(environ: Mapping[str, str], name: str) -> bool:
    return bool(environ.get(name) or environ.get(f"{name}_FILE"))
