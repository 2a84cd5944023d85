"""`token` and the local issuer of `dev`: `/sync` without Clerk, and never beside Clerk's own keys."""

import contextlib
import json
import re
import stat
import subprocess
from pathlib import Path

import httpx2
import pytest

from sync_service.dev.issuer import ensure_public_key
from tests.clerk_stub import ISSUER, PUBLISHABLE_KEY, SECRET_KEY, export_public_key, make_bearer_header
from tests.processes import run_here, start_command
from tests.world import SECRET

READY = r'"event":"ready"'
PARTY = "https://app.example.com"


def test_a_local_token_signs_in_a_user_of_dev(tmp_path: Path) -> None:
    with start_command("dev", cwd=tmp_path, CLERK_AUTHORIZED_PARTIES=f"{PARTY} https://other.example.com") as dev:
        dev.wait_for(READY)
        environ = {"PORT": str(dev.port), "CLERK_AUTHORIZED_PARTIES": PARTY, "QUIET": "1"}
        run_here("send", "user.created", "--user", "user_1", cwd=tmp_path, **environ)
        done = run_here("token", "user_1", cwd=tmp_path, **environ)
        assert (done.returncode, done.stderr) == (0, "")
        token = done.stdout.strip()
        assert json.loads(run_here("token", "user_2", "--json", cwd=tmp_path, **environ).stdout)["token"] != token
        url = f"http://127.0.0.1:{dev.port}/sync"
        response = httpx2.post(url, headers=make_bearer_header(token))
        assert (response.status_code, response.json()["outcome"]) == (200, "current")
        assert response.json()["user"]["id"] == "user_1"
        assert httpx2.post(url, headers=make_bearer_header(token[:-9] + "AAAAAAAAA")).status_code == 401
        printed = re.search(r"Sign in as it: +(curl .*)", dev.output)
        assert printed
        line = printed[1].replace(" curl ", " curl -sS ")
        environ = {"PATH": "/usr/bin:/bin", "CLERK_AUTHORIZED_PARTIES": PARTY}
        shown = subprocess.run(
            ["sh", "-c", line], cwd=tmp_path, env=environ, capture_output=True, text=True, check=True
        )
        assert json.loads(shown.stdout)["outcome"] == "current"
        for file in (tmp_path / ".sync-service").glob("issuer-*"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        keys = [file.read_bytes() for file in sorted((tmp_path / ".sync-service").glob("issuer-*"))]
        create_local_token(tmp_path)
        assert keys == [file.read_bytes() for file in sorted((tmp_path / ".sync-service").glob("issuer-*"))]


@pytest.mark.parametrize(
    "keys",
    [
        {"CLERK_SECRET_KEY": SECRET_KEY},
        {"CLERK_PUBLISHABLE_KEY": PUBLISHABLE_KEY},
        {"CLERK_ISSUER": ISSUER},
        {"CLERK_JWKS_URL": f"{ISSUER}/jwks"},
        {"CLERK_JWT_KEY": "public"},
    ],
    ids=lambda keys: next(iter(keys)),
)
def test_no_local_token_beside_a_key_of_clerk(tmp_path: Path, keys: dict[str, str]) -> None:
    keys = {name: export_public_key() if text == "public" else text for name, text in keys.items()}
    (tmp_path / ".sync-service").mkdir()
    (tmp_path / ".sync-service" / "issuer-private.pem").touch()
    done = run_here("token", "user_1", cwd=tmp_path, **keys)
    assert (done.returncode, done.stdout) == (2, "")
    assert "keys of Clerk are set" in done.stderr


def create_local_token(folder: Path) -> str:
    """Return a token of the local issuer, whose key pair `dev` creates."""
    with contextlib.chdir(folder):
        ensure_public_key()
    return run_here("token", "user_1", cwd=folder, QUIET="1").stdout.strip()


def test_dev_does_not_trust_the_local_issuer_beside_a_key_of_clerk(tmp_path: Path, database: str) -> None:
    environ = {"DATABASE_URL": database, "CLERK_WEBHOOK_SIGNING_SECRET": SECRET}
    token = create_local_token(tmp_path)
    with start_command("dev", cwd=tmp_path, CLERK_JWT_KEY=export_public_key(), **environ) as dev:
        dev.wait_for(READY)
        assert "sync-service token" not in dev.output
        url = f"http://127.0.0.1:{dev.port}/sync"
        assert httpx2.post(url, headers=make_bearer_header(token)).status_code == 401


def test_serve_does_not_trust_the_local_issuer(tmp_path: Path, database: str) -> None:
    environ = {"DATABASE_URL": database, "CLERK_WEBHOOK_SIGNING_SECRET": SECRET}
    token = create_local_token(tmp_path)
    with start_command("serve", cwd=tmp_path, **environ) as service:
        service.wait_for(READY)
        url = f"http://127.0.0.1:{service.port}/sync"
        assert httpx2.post(url, headers=make_bearer_header(token)).status_code == 401


def test_a_token_needs_the_folder_of_dev(tmp_path: Path) -> None:
    done = run_here("token", "user_1", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "dev` here first" in done.stderr
