"""The source of a column in a table of sessions, organizations or memberships, by its name and type (pure)."""

from collections.abc import Mapping

from sync_service.clerk.entities import MEMBERSHIP, ORGANIZATION, SESSION
from sync_service.mapping.coercion import TIME_TYPES
from sync_service.mapping.introspection import Column
from sync_service.suggest.names import normalize, parse_words
from sync_service.suggest.rules import Spec

# Names in the form of `normalize`, by the source of their values.
_TEXTS: Mapping[str, Mapping[str, frozenset[str]]] = {
    SESSION.name: {
        "user_id": parse_words("clerkid clerkuserid clerkuser"),
        "client_id": parse_words("clientid clerkclientid"),
        "status": parse_words("status sessionstatus"),
        "latest_activity.ip_address": parse_words("ip ipaddress ipaddr clientip"),
        "latest_activity.device_type": parse_words("device devicetype"),
        "latest_activity.browser_name": parse_words("browser browsername"),
        "latest_activity.browser_version": parse_words("browserversion"),
        "latest_activity.city": parse_words("city locationcity"),
        "latest_activity.country": parse_words("country countrycode locationcountry"),
        "event_attributes.http_request.user_agent": parse_words("useragent"),
        "actor.sub": parse_words("impersonator impersonatorid actorid"),
    },
    ORGANIZATION.name: {
        "name": parse_words("name displayname orgname organizationname teamname"),
        "slug": parse_words("slug"),
        "image_url": parse_words("imageurl image logo logourl avatar avatarurl"),
    },
    MEMBERSHIP.name: {"role": parse_words("role orgrole membershiprole")},
}
_TIMES: Mapping[str, Mapping[str, frozenset[str]]] = {
    SESSION.name: {
        "created_at": parse_words("createdat startedat created started"),
        "last_active_at": parse_words("lastactiveat lastactive lastactivityat lastseenat lastseen"),
        "expire_at": parse_words("expiresat expireat expires expiry"),
        "abandon_at": parse_words("abandonat abandonedat"),
        "ended_at": parse_words("endedat endat ended revokedat"),
    },
}
_ACTIVE = parse_words("isactive active")
# The request at the end of a session may come from another client.
_WRITTEN_ONCE = frozenset({"event_attributes.http_request.user_agent"})


def find_related_source(entity: str, column: Column) -> Spec | None:
    """Return the rule for a column that shows the object of Clerk; None for a column of the app."""
    name = normalize(column.name)
    if entity == SESSION.name and column.category == "B" and name in _ACTIVE:
        return {"from": "status", "equals": "active"}
    names = _TIMES if column.base in TIME_TYPES else _TEXTS
    if column.base not in TIME_TYPES and column.category not in {"S", "E", "I"}:
        return None
    source = next((source for source, known in names.get(entity, {}).items() if name in known), None)
    return {"from": source, "write": "insert"} if source in _WRITTEN_ONCE else source
