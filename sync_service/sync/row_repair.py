"""Compares the users, or other objects, of one page with their rows, and writes the rows that differ."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from sync_service.clerk.change import Snapshot
from sync_service.clerk.entities import USER, Entity
from sync_service.clerk.events import Event
from sync_service.clerk.user_list import LISTABLE_ID, MAX_IDS, Listed, UserList
from sync_service.errors import DatabaseUnavailable
from sync_service.store.access import Store
from sync_service.store.comparison import Difference, Drift, ValuePairs, compare_users, read_values
from sync_service.store.email_claims import list_pending_users
from sync_service.store.links import Link, LinkKind, find_links
from sync_service.sync.apply import LOCKED, Applier
from sync_service.sync.child_comparison import compare_children
from sync_service.sync.drift_report import MAX_EXAMPLES, Findings, Report
from sync_service.sync.outcome import Outcome

log = structlog.get_logger()

SOURCE = "reconcile"


@dataclass(frozen=True, slots=True)
class RowRepair:
    """Repairs rows with an applier whose source is `SOURCE`, and counts them in the report.

    `shows_values`: the report has the values of its examples. `entity` is the kind of the objects. `linked` are hashes
    of the keys of linked rows, because a dry run leaves these rows without an owner.
    """

    applier: Applier
    report: Report
    shows_values: bool = False
    entity: Entity = USER
    linked: set[int] = field(default_factory=set)

    def for_entity(self, entity: Entity) -> "RowRepair":
        """Return the repair of another kind of object, with the same report."""
        return RowRepair(self.applier, self.report, self.shows_values, entity)

    @property
    def store(self) -> Store:
        """The store of the objects."""
        return self.applier.store.for_entity(self.entity.name)

    async def repair(self, users: Sequence[Listed]) -> None:
        """Do the same as `find_and_write`, and count the findings. Raises `DatabaseError`."""
        self.report.count_page(await self.find_and_write(users))

    async def find_and_write(self, users: Sequence[Listed]) -> Findings:
        """Compare the objects of one page with their rows, and write the rows that differ, unless it is a dry run.

        Raises `DatabaseError`.
        """
        snapshots = [user.snapshot for user in users if user.snapshot]
        differences = await self._compare(snapshots)
        links, values = await self._find_links(differences), await self._read_values(differences)
        is_written = differences and not self.report.dry_run
        outcomes = await self._apply(differences) if is_written else []
        unreadable = [user.clerk_id for user in users if not user.snapshot]
        if unreadable:
            log.warning(
                "objects_unreadable", entity=self.entity.name, count=len(unreadable), first=unreadable[:MAX_EXAMPLES]
            )
        return Findings(self.entity.section, len(users), len(unreadable), differences, outcomes, links, values)

    async def _compare(self, snapshots: Sequence[Snapshot]) -> list[Difference]:
        if self.store.parents:
            return await compare_children(self.store, [self._make_event(snapshot) for snapshot in snapshots])
        is_import = self.entity is USER and self.report.missing * 2 > self.report.users
        return await compare_users(self.store, snapshots, is_import=is_import)

    async def _find_links(self, differences: Sequence[Difference]) -> dict[str, Link] | None:
        store = self.store
        if not store.mapping.links_rows:
            return None
        missing = [difference.snapshot.user for difference in differences if difference.drift is Drift.MISSING]
        if not missing:
            return {}
        async with store.acquire() as bound:
            links = await find_links(bound, missing)
        links = {clerk_id: link for clerk_id, link in links.items() if hash(link.key) not in self.linked}
        self.linked.update(hash(link.key) for link in links.values() if link.kind is not LinkKind.AMBIGUOUS)
        return links

    async def _read_values(self, differences: Sequence[Difference]) -> dict[str, ValuePairs]:
        if not (self.shows_values and self.report.has_room):
            return {}
        shown = [difference for difference in differences if difference.columns][:MAX_EXAMPLES]
        return {user.snapshot.clerk_id: await read_values(self.store, user) for user in shown}

    async def _apply(self, differences: Sequence[Difference]) -> list[Outcome]:
        outcomes = await self.applier.apply_again([self._make_event(difference.snapshot) for difference in differences])
        # A row that the app has locked for long is one failed user. Any other reason concerns the database.
        if all(outcome.outcome == "unavailable" and outcome != LOCKED for outcome in outcomes):
            raise DatabaseUnavailable(outcomes[0].reason or "")
        return outcomes

    async def settle_claims(self, users: UserList) -> None:
        """Write the users again whose row lacks a value that another row had, such as the email.

        Of two users who swapped their values, one may be left without a value if both were written at the same moment.
        Here one user follows the other. Raises `ClerkUnavailable` or `DatabaseError`.
        """
        last = ""
        while not self.report.dry_run:
            async with self.applier.store.database.acquire() as connection:
                pending = await list_pending_users(connection, MAX_IDS - 1, last)
            listable = [clerk_id for clerk_id in pending if LISTABLE_ID.fullmatch(clerk_id)]
            if not listable:
                return
            for user in await users.find_users(listable, None):
                if user.snapshot:
                    await self.applier.apply_again([self._make_event(user.snapshot)])
            last = pending[-1]

    def _make_event(self, snapshot: Snapshot) -> Event:
        return Event(None, SOURCE, None, snapshot.clerk_id, snapshot, entity=self.entity.name)
