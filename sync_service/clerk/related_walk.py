"""A walk over all organizations or memberships, and the search for some of them.

Their lists have no cursor, so the pages overlap: an object that is deleted meanwhile moves the later ones up by one.
"""

from collections.abc import AsyncGenerator, Sequence

from sync_service.clerk.related_list import RelatedList, RelatedPage
from sync_service.clerk.user_list import PAGE_SIZE, Listed
from sync_service.errors import ClerkUnavailable

# Objects on two pages.
PAGE_OVERLAP = 50

# The oldest first, so that objects created meanwhile are at the end.
ASCENDING, DESCENDING = "created_at", "-created_at"


async def iter_pages(objects: RelatedList, order: str = ASCENDING) -> AsyncGenerator[RelatedPage, None]:
    """Yield the pages, each without the objects of the page before. Raises `ClerkUnavailable`."""
    offset, before = 0, frozenset[str]()
    while True:
        page = await objects.get_page({"order_by": order, "limit": PAGE_SIZE, "offset": offset})
        yield RelatedPage([one for one in page.objects if one.clerk_id not in before], page.total)
        count = len(page.objects)
        if count == 0 or offset + count >= page.total:
            return
        before = frozenset(one.clerk_id for one in page.objects)
        offset += count - PAGE_OVERLAP if count > PAGE_OVERLAP else count


async def find_objects(objects: RelatedList, clerk_ids: Sequence[str], control: str | None) -> list[Listed]:
    """Return those of some objects that Clerk has. `control` is one that it must have, if any.

    Organizations are requested by ID. Clerk finds no membership by ID, so all of them are read again, in the opposite
    order. Raises `ClerkUnavailable` if the response proves no deletion.
    """
    wanted = {*clerk_ids, *([control] if control else [])}
    found = await (objects.get_by_id(wanted) if objects.finds_by_id else _find_in_all(objects, wanted))
    known = {one.clerk_id for one in found}
    if not known <= wanted or (control and control not in known):
        raise ClerkUnavailable("the list does not name the requested objects")
    return [one for one in found if one.clerk_id != control]


async def _find_in_all(objects: RelatedList, wanted: set[str]) -> list[Listed]:
    found: dict[str, Listed] = {}
    seen: set[str] = set()
    totals: list[int] = []
    async for page in iter_pages(objects, DESCENDING):
        seen.update(one.clerk_id for one in page.objects)
        totals.append(page.total)
        found |= {one.clerk_id: one for one in page.objects if one.clerk_id in wanted}
    # Objects that are created or deleted meanwhile change the total.
    if len(seen) < min(totals):
        raise ClerkUnavailable("the list is incomplete")
    return [*found.values()]
