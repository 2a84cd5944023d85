"""Clerk's Backend API: its URLs, and the headers with the secret key (pure).

https://clerk.com/docs/reference/backend-api
"""

# The newest version of the API. Without the header, a setting of the instance would decide the shape of a user.
API_VERSION = "2026-05-12"


def build_api_url(base_url: str, path: str) -> str:
    """Return the URL of a route; the `/v1` at the end of a base URL, as some of Clerk's SDKs have it, is optional."""
    return f"{base_url.removesuffix('/v1')}/v1{path}"


def build_auth_headers(secret_key: str) -> dict[str, str]:
    """Return the headers of a request with the secret key."""
    return {"Authorization": f"Bearer {secret_key}", "Clerk-API-Version": API_VERSION}
