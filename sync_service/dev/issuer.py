"""An issuer of session tokens on this machine. `dev` trusts it, so that `/sync` can be tried without Clerk."""

import secrets
import time

from sync_service.dev.state import STATE_FOLDER, write_private_file
from sync_service.settings import Settings

# RFC 2606 reserves .invalid, so this is no issuer of Clerk.
ISSUER = "https://dev.sync-service.invalid"

PRIVATE_KEY_FILE = STATE_FOLDER / "issuer-private.pem"
PUBLIC_KEY_FILE = STATE_FOLDER / "issuer-public.pem"

# Clerk's tokens live for a minute. This one lives long enough for an experiment.
LIFETIME_SECONDS = 3600


def has_key_of_clerk(settings: Settings) -> bool:
    """Return whether a setting says how Clerk's own tokens are verified; the issuer must then not be used."""
    return any((settings.clerk_secret_key, settings.clerk_jwt_key, settings.issuer, settings.jwks_url))


def ensure_public_key() -> str:
    """Return the public key of the issuer as PEM. The first call creates the key pair."""
    if not (PRIVATE_KEY_FILE.exists() and PUBLIC_KEY_FILE.exists()):
        _create_key_pair()
    return PUBLIC_KEY_FILE.read_text(encoding="utf-8")


def sign_token(user_id: str, authorized_party: str | None = None) -> str:
    """Return a session token of the user, in Clerk's format."""
    import jwt  # noqa: PLC0415  a slow import that only one command needs

    now = int(time.time())
    claims = {
        "exp": now + LIFETIME_SECONDS,
        "fva": [0, -1],
        "iat": now,
        "iss": ISSUER,
        "jti": secrets.token_hex(10),
        "nbf": now - 10,
        "sid": f"sess_{secrets.token_hex(12)}",
        "sts": "active",
        "sub": user_id,
        "v": 2,
    }
    if authorized_party:
        claims["azp"] = authorized_party
    return jwt.encode(claims, PRIVATE_KEY_FILE.read_text(encoding="utf-8"), algorithm="RS256")


def _create_key_pair() -> None:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  as above
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key  # noqa: PLC0415  as above

    key = generate_private_key(65537, 2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write_private_file(PRIVATE_KEY_FILE, private.decode())
    write_private_file(PUBLIC_KEY_FILE, public.decode())
