"""What the settings tell of Clerk: whether keys belong together, and to the instance of the database (pure)."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from sync_service.clerk.instance import Answer
from sync_service.doctor.findings import Finding
from sync_service.settings import Settings
from sync_service.spellings import frontend_api

_WHERE = "Clerk's dashboard: Configure, API keys"


def bad_settings(faults: tuple[str, ...]) -> Iterator[Finding]:
    """Yield what the settings themselves say is wrong."""
    for fault in faults:
        name, _, why = fault.partition(": ")
        yield Finding(
            code="bad_setting",
            kind="wrong",
            what=f"{name}: {why}",
            why="No command starts with it, so that nothing is done with a setting that is not meant.",
            data={"setting": name},
        )


def key_findings(settings: Settings) -> Iterator[Finding]:
    """Yield what the keys' own form tells."""
    secret, publishable = (_environment(k) for k in (settings.clerk_secret_key, settings.clerk_publishable_key))
    if secret and publishable and secret != publishable:
        yield Finding(
            code="keys_of_two_instances",
            kind="wrong",
            what=f"CLERK_SECRET_KEY is of a {secret} instance, CLERK_PUBLISHABLE_KEY of a {publishable} instance",
            why="Their users have different IDs: whoever signs in at the one is unknown to the other.",
            do=(f"copy both from one instance: {_WHERE}",),
        )
    key = settings.clerk_publishable_key
    host = urlsplit(frontend_api(key)).hostname if key else None
    for name, address in (("CLERK_ISSUER", settings.clerk_issuer), ("CLERK_JWKS_URL", settings.clerk_jwks_url)):
        if host and address and urlsplit(address).hostname != host:
            yield Finding(
                code="issuer_differs",
                kind="warning",
                what=f"{name} names another host than CLERK_PUBLISHABLE_KEY, {host}",
                why="Right behind a proxy of your own; otherwise every session token is refused.",
                do=(f"unset {name}, unless it is a proxy of your own",),
                data={"setting": name, "host": host},
            )
    if settings.clerk_secret_key is None:
        yield Finding(
            code="no_secret_key",
            kind="note",
            what="CLERK_SECRET_KEY is not set",
            why="Clerk cannot be asked: not for a user at login, not for all of them, not for the instance's ID.",
            do=(f"set it: {_WHERE}",),
        )


def instance_findings(
    settings: Settings, pinned: str | None, secret: Answer | None, publishable: Answer | None
) -> Iterator[Finding]:
    """Yield whether settings, keys and database speak of one instance; `pinned` is that of the accepted events."""
    named = settings.clerk_instance_id
    if named and pinned and named != pinned:
        yield Finding(
            code="wrong_instance",
            kind="wrong",
            what=f"CLERK_INSTANCE_ID is {named}, and the events in the database are of {pinned}",
            why="The users of two instances have different IDs; one users table serves one of them.",
            do=("set CLERK_INSTANCE_ID to the instance of this database, or DATABASE_URL to that of the instance",),
            data={"setting": named, "database": pinned},
        )
    if secret:
        yield from _of_secret_key(settings, named or pinned, secret)
    if publishable:
        yield from _of_publishable_key(named or pinned, secret, publishable)


def jwks_url(settings: Settings) -> str | None:
    """Return where the keys of session tokens are, as far as the settings say."""
    key = settings.clerk_publishable_key
    issuer = settings.clerk_issuer or (frontend_api(key) if key else None)
    return settings.clerk_jwks_url or (f"{issuer}/.well-known/jwks.json" if issuer else None)


def _of_secret_key(settings: Settings, expected: str | None, answer: Answer) -> Iterator[Finding]:
    if answer.status in {401, 403}:
        yield Finding(
            code="api_key_refused",
            kind="wrong",
            what=f"CLERK_SECRET_KEY: Clerk refuses it ({answer.status})",
            why="It was rolled, or is of an instance that is gone: no user can be fetched.",
            do=(f"copy the key that is there now: {_WHERE}",),
            data={"status": answer.status},
        )
    elif answer.fault or answer.status != 200:
        yield Finding(
            code="clerk_unreachable",
            kind="note",
            what=f"Clerk's Backend API at {settings.clerk_api_url} did not answer ({answer.fault or answer.status})",
            why="Whether CLERK_SECRET_KEY is right cannot be told without it.",
            data={"fault": answer.fault, "status": answer.status},
        )
    elif expected and answer.instances and expected not in answer.instances:
        found = ", ".join(sorted(answer.instances))
        yield Finding(
            code="wrong_api_key_instance",
            kind="wrong",
            what=f"CLERK_SECRET_KEY is of the instance {found}, the events are of {expected}",
            why="Every user looks deleted to it: a comparison with Clerk would take them for gone.",
            do=(f"copy the key of {expected}: {_WHERE}",),
            data={"key": sorted(answer.instances), "expected": expected},
        )


def _of_publishable_key(expected: str | None, secret: Answer | None, answer: Answer) -> Iterator[Finding]:
    others = {expected} if expected else set(secret.instances) if secret else set()
    if answer.fault or answer.status != 200:
        yield Finding(
            code="jwks_unreachable",
            kind="note",
            what=f"the keys of session tokens did not come ({answer.fault or answer.status})",
            why="Session tokens cannot be verified without them, unless CLERK_JWT_KEY is set.",
            data={"fault": answer.fault, "status": answer.status},
        )
    elif others and answer.instances and not others & answer.instances:
        yield Finding(
            code="wrong_publishable_key_instance",
            kind="wrong",
            what=f"session tokens are signed by {', '.join(sorted(answer.instances))}, the users are of"
            f" {', '.join(sorted(others))}",
            why="Whoever signs in has an ID that no row has.",
            do=(f"copy the publishable key of the same instance: {_WHERE}",),
            data={"tokens": sorted(answer.instances), "expected": sorted(others)},
        )


def _environment(key: str | None) -> str | None:
    words = (key or "").split("_")
    return {"test": "development", "live": "production"}.get(words[1]) if len(words) > 2 else None
