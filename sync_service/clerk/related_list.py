"""Lists of Clerk's organizations and memberships, page by page.

https://clerk.com/docs/reference/backend-api/tag/organizations/get/organizations ; Clerk has no list of all sessions.
"""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from sync_service.clerk.client import QueryParameters
from sync_service.clerk.entities import MEMBERSHIP, ORGANIZATION, Entity
from sync_service.clerk.json_repair import parse_tolerantly
from sync_service.clerk.list_requests import ListRequests
from sync_service.clerk.resource import UNREADABLE_JSON, Resource
from sync_service.clerk.user_list import Listed, decode_listed
from sync_service.errors import ClerkUnavailable

PATHS = {ORGANIZATION.name: "/organizations", MEMBERSHIP.name: "/organization_memberships"}

# Without this parameter an organization lacks its number of members, which its events have.
FURTHER_PARAMETERS: Mapping[str, QueryParameters] = {ORGANIZATION.name: {"include_members_count": "true"}}

# The parameter that selects objects by their IDs.
ID_PARAMETERS = {ORGANIZATION.name: "organization_id"}


class RelatedPage(Struct, frozen=True):
    """The objects of one page, and the number of all objects."""

    objects: list[Listed]
    total: int


class RelatedList:
    """Reads lists of one entity."""

    def __init__(self, requests: ListRequests, entity: Entity) -> None:
        self._requests = requests
        self.entity = entity

    async def get_page(self, parameters: QueryParameters) -> RelatedPage:
        """Return one page. Raises `ClerkRequestRefused`, `ClerkAuthError`, or `ClerkUnavailable` in the end."""
        name = self.entity.name
        wanted = {**FURTHER_PARAMETERS.get(name, {}), **parameters}

        async def request() -> RelatedPage:
            return decode_page(await self._requests.client.list_related(PATHS[name], wanted))

        return await self._requests.repeat(request)

    @property
    def finds_by_id(self) -> bool:
        """Whether Clerk can select objects of this entity by ID."""
        return self.entity.name in ID_PARAMETERS

    async def get_by_id(self, clerk_ids: Collection[str]) -> list[Listed]:
        """Return those of at most `MAX_IDS` objects that Clerk has. Raises as `get_page` does."""
        name = ID_PARAMETERS[self.entity.name]
        return (await self.get_page({name: sorted(clerk_ids), "limit": len(clerk_ids)})).objects


class _Page(Struct):
    data: list[Raw]
    total_count: int


_page_decoder = msgspec.json.Decoder(_Page)
_resource_decoder = msgspec.json.Decoder(Resource)
_fields_decoder = msgspec.json.Decoder(dict[str, Any])


def decode_page(content: bytes) -> RelatedPage:
    """Return the objects of a page. One unreadable object affects no other one.

    Raises `ClerkUnavailable` for another document, or for a truncated one.
    """
    try:
        page, _ = parse_tolerantly(_page_decoder.decode, content)
        return RelatedPage([decode_listed(bytes(one), _decode) for one in page.data], page.total_count)
    except UNREADABLE_JSON:
        raise ClerkUnavailable("unreadable_list") from None


def _decode(content: bytes) -> tuple[Resource, dict[str, Any]]:
    return _resource_decoder.decode(content), _fields_decoder.decode(content)
