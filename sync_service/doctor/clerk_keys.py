"""Checks of the settings: whether the Clerk keys belong together and to the instance of the database (pure)."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from sync_service.clerk.instance_lookup import InstanceLookup
from sync_service.doctor.findings import Finding
from sync_service.parsers import get_frontend_api_url
from sync_service.settings import Settings

_API_KEYS_PAGE = "Clerk's dashboard: Configure, API keys"

_ENVIRONMENTS = {"test": "development", "live": "production"}


def report_bad_settings(errors: tuple[str, ...]) -> Iterator[Finding]:
    """Yield a finding for each invalid setting. Each error begins with the setting's name and a colon."""
    for error in errors:
        name, _, why = error.partition(": ")
        yield Finding(
            code="bad_setting",
            kind="wrong",
            what=f"{name}: {why}",
            why="No command starts with an invalid setting, so that none acts on a mistake.",
            data={"setting": name},
        )


def check_keys(settings: Settings) -> Iterator[Finding]:
    """Yield the problems that the keys themselves show, without a request to Clerk."""
    yield from _check_environments(settings)
    yield from _check_hosts(settings)
    if not (settings.clerk_jwt_key or settings.jwks_url or settings.clerk_secret_key):
        yield Finding(
            code="no_token_key",
            kind="note",
            what="no setting gives a key for session tokens",
            why="POST /sync answers 401 to every session token; it accepts only SYNC_API_TOKEN.",
            do=(f"set CLERK_PUBLISHABLE_KEY or CLERK_JWT_KEY: {_API_KEYS_PAGE}",),
        )
    if settings.clerk_secret_key is None:
        yield Finding(
            code="no_secret_key",
            kind="note",
            what="CLERK_SECRET_KEY is not set",
            why="sync-service cannot ask Clerk for a user at login, for all users, or for the ID of the instance.",
            do=(f"set it: {_API_KEYS_PAGE}",),
        )


def report_missing_signing_secret() -> Finding:
    """Return the finding that this run checks a table for another process, which has the signing secret."""
    return Finding(
        code="no_signing_secret",
        kind="note",
        what="CLERK_WEBHOOK_SIGNING_SECRET is not set",
        why="No webhook arrives here, so the table is checked, but not the webhooks. `serve` needs the secret.",
    )


def check_instances(
    settings: Settings, pinned_instance: str | None, secret: InstanceLookup | None, publishable: InstanceLookup | None
) -> Iterator[Finding]:
    """Yield the differences between the instances of settings, keys and database.

    `pinned_instance` is the instance of the accepted events. `secret` and `publishable` are Clerk's responses for the
    two keys.
    """
    configured = settings.clerk_instance_id
    if configured and pinned_instance and configured != pinned_instance:
        yield Finding(
            code="wrong_instance",
            kind="wrong",
            what=f"CLERK_INSTANCE_ID is {configured}, but the events in the database belong to {pinned_instance}",
            why="The users of two instances have different IDs. A users table can serve only one instance.",
            do=("set CLERK_INSTANCE_ID to the database's instance, or DATABASE_URL to the instance's database",),
            data={"setting": configured, "database": pinned_instance},
        )
    expected = configured or pinned_instance
    if secret:
        yield from _check_secret_key(settings, expected, secret)
    if publishable:
        yield from _check_publishable_key(expected, secret, publishable)


def _check_environments(settings: Settings) -> Iterator[Finding]:
    secret = _read_environment(settings.clerk_secret_key)
    publishable = _read_environment(settings.clerk_publishable_key)
    if secret and publishable and secret != publishable:
        yield Finding(
            code="keys_of_two_instances",
            kind="wrong",
            what=f"CLERK_SECRET_KEY belongs to a {secret} instance, but CLERK_PUBLISHABLE_KEY to a {publishable}"
            " instance",
            why="The users of two instances have different IDs: a user of one instance is unknown in the other.",
            do=(f"copy both keys from the same instance: {_API_KEYS_PAGE}",),
        )


def _check_hosts(settings: Settings) -> Iterator[Finding]:
    key = settings.clerk_publishable_key
    host = urlsplit(get_frontend_api_url(key)).hostname if key else None
    for name, url in (("CLERK_ISSUER", settings.clerk_issuer), ("CLERK_JWKS_URL", settings.clerk_jwks_url)):
        if host and url and urlsplit(url).hostname != host:
            yield Finding(
                code="issuer_differs",
                kind="warning",
                what=f"{name} has another host than CLERK_PUBLISHABLE_KEY, which names {host}",
                why="This is correct only with a proxy of your own. Otherwise every session token is refused.",
                do=(f"unset {name}, unless it names a proxy of your own",),
                data={"setting": name, "host": host},
            )


def _check_secret_key(settings: Settings, expected: str | None, response: InstanceLookup) -> Iterator[Finding]:
    if response.status in {401, 403}:
        yield Finding(
            code="api_key_refused",
            kind="wrong",
            what=f"CLERK_SECRET_KEY: Clerk refuses it ({response.status})",
            why="The key was replaced, or its instance was deleted. No user can be fetched.",
            do=(f"copy the current key: {_API_KEYS_PAGE}",),
            data={"status": response.status},
        )
    elif response.error or response.status != 200:
        error = response.error or response.status
        yield Finding(
            code="clerk_unreachable",
            kind="note",
            what=f"Clerk's Backend API at {settings.clerk_api_url} cannot be used ({error})",
            why="Without it, CLERK_SECRET_KEY cannot be checked.",
            data={"fault": response.error, "status": response.status},
        )
    elif expected and response.instances and expected not in response.instances:
        found = ", ".join(sorted(response.instances))
        yield Finding(
            code="wrong_api_key_instance",
            kind="wrong",
            what=f"CLERK_SECRET_KEY belongs to the instance {found}, but the events belong to {expected}",
            why="With this key every user looks deleted, so a comparison with Clerk would report all of them as gone.",
            do=(f"copy the key of {expected}: {_API_KEYS_PAGE}",),
            data={"key": sorted(response.instances), "expected": expected},
        )


def _check_publishable_key(
    expected: str | None, secret: InstanceLookup | None, response: InstanceLookup
) -> Iterator[Finding]:
    others: set[str] = set()
    if expected:
        others = {expected}
    elif secret:
        others = set(secret.instances)
    if response.error or response.status != 200:
        yield Finding(
            code="jwks_unreachable",
            kind="note",
            what=f"the keys of session tokens could not be fetched ({response.error or response.status})",
            why="Session tokens cannot be verified without them, unless CLERK_JWT_KEY is set.",
            data={"fault": response.error, "status": response.status},
        )
    elif others and response.instances and not others & response.instances:
        expected_names = ", ".join(sorted(others))
        yield Finding(
            code="wrong_publishable_key_instance",
            kind="wrong",
            what=f"session tokens are signed by {', '.join(sorted(response.instances))}, but the users belong to"
            f" {expected_names}",
            why="No row has the ID of a user of that instance.",
            do=(f"copy the publishable key of the same instance: {_API_KEYS_PAGE}",),
            data={"tokens": sorted(response.instances), "expected": sorted(others)},
        )


def _read_environment(key: str | None) -> str | None:
    """Return `development` for a key such as `sk_test_…`, `production` for `sk_live_…`, None for other keys."""
    words = (key or "").split("_")
    return _ENVIRONMENTS.get(words[1]) if len(words) > 2 else None
