"""The folder `.sync-service/`: the files that `dev` keeps, and the settings that other commands take from it."""

import base64
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from sync_service.dev.embedded import running
from sync_service.settings import Settings, read_settings

STATE_FOLDER = Path(".sync-service")
DATA_FOLDER = STATE_FOLDER / "postgres"
SECRET_FILE = STATE_FOLDER / "signing-secret"
OPS_TOKEN_FILE = STATE_FOLDER / "ops-token"


def load_settings(environ: Mapping[str, str], *required: str, with_mapping: bool = True) -> Settings:
    """Return the settings of the environment, completed from `dev` in this folder. Raises `SettingsError`."""
    return read_settings(with_dev_defaults(environ), required=required, with_mapping=with_mapping)


def with_dev_defaults(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment; the DSN of a running `dev` in this folder and its signing secret fill gaps."""
    completed = dict(environ)
    if not _is_set(environ, "DATABASE_URL") and (server := running(DATA_FOLDER)):
        completed["DATABASE_URL"] = server.dsn()
    if not _is_set(environ, "CLERK_WEBHOOK_SIGNING_SECRET") and SECRET_FILE.exists():
        completed["CLERK_WEBHOOK_SIGNING_SECRET"] = SECRET_FILE.read_text(encoding="utf-8")
    return completed


def ensure_signing_secret() -> str:
    """Return the signing secret of `dev`. The first call creates its file, readable by the owner only."""
    return _ensure_file(SECRET_FILE, f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}")


def ensure_ops_token() -> str:
    """Return the operators' token of `dev`. The first call creates its file, readable by the owner only."""
    return _ensure_file(OPS_TOKEN_FILE, secrets.token_urlsafe(24))


def _ensure_file(file: Path, content: str) -> str:
    if not file.exists():
        write_private_file(file, f"{content}\n")
    return file.read_text(encoding="utf-8").strip()


def write_private_file(file: Path, text: str) -> None:
    """Write a file of the state folder at once, readable by the owner only."""
    STATE_FOLDER.mkdir(mode=0o700, exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}")
    temporary.touch(mode=0o600)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


def _is_set(environ: Mapping[str, str], name: str) -> bool:
    return bool(environ.get(name) or environ.get(f"{name}_FILE"))
