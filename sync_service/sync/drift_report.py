"""The report of a reconcile, and the limit on its deletions (pure)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sync_service.clerk.entities import USER
from sync_service.store.comparison import Difference, Drift, ValuePairs
from sync_service.store.links import Link, LinkKind
from sync_service.store.reconciles import RUN_COUNTS
from sync_service.sync.outcome import WAITING_FOR, Outcome

# A run deletes no user if more than so many, and more than this share of all users, would be deleted. The same holds
# for each other kind of object.
MAX_DELETIONS = 10
MAX_DELETED_SHARE = 0.05

# Differences that a dry run prints.
MAX_EXAMPLES = 20


@dataclass(frozen=True, slots=True)
class Findings:
    """The number of objects on one page, of those that cannot be read, and the differences. `section` is their kind.

    `outcomes` are the results of writing the differences; there are none in a dry run. `links` are the rows from before
    Clerk that missing users get, None if the mapping links no rows. `values` are those of some differences. Both are by
    Clerk ID.
    """

    section: str = USER.section
    objects: int = 0
    unreadable: int = 0
    differences: Sequence[Difference] = ()
    outcomes: Sequence[Outcome] = ()
    links: Mapping[str, Link] | None = None
    values: Mapping[str, ValuePairs] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Example:
    """A finding about one user.

    `columns` are those that differ, with the value of the row and the value of Clerk if these were requested. `link` is
    the row from before Clerk that the user gets.
    """

    clerk_id: str
    kind: str
    columns: tuple[str, ...] = ()
    link: Link | None = None
    values: ValuePairs = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Report:
    """The counts of one run. Each object is counted once: missing, stale, differing or deleted.

    `users` are the users that were compared, and `related` the other objects, by section of `sync.toml`. The other
    counts are of all objects. `repaired` counts those that were written or deleted. `refused` counts objects that the
    table refuses, and deletions above the limit, which `refused_deletions` has by section. `failed` counts objects that
    could not be read, written or deleted for another reason. `unlisted` are those of them that Clerk counts and that
    its lists have not shown, by section. `finished` is false if the run ended early because of `error`. `links` counts
    the missing users with a row from before Clerk.
    """

    dry_run: bool = False
    recent: bool = False
    users: int = 0
    missing: int = 0
    stale: int = 0
    differing: int = 0
    deleted: int = 0
    repaired: int = 0
    refused: int = 0
    failed: int = 0
    columns: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    finished: bool = False
    refused_deletions: dict[str, int] = field(default_factory=dict)
    unlisted: dict[str, int] = field(default_factory=dict)
    related: dict[str, int] = field(default_factory=dict)
    pages: int = 0
    error: str | None = None
    links: dict[LinkKind, int] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)

    @property
    def drift(self) -> int:
        """The number of objects with a finding."""
        return self.missing + self.stale + self.differing + self.deleted

    @property
    def is_clean(self) -> bool:
        """Whether the run is finished, and no work is left."""
        is_done = self.finished and not (self.refused or self.failed)
        return is_done and not (self.dry_run and self.drift)

    @property
    def has_room(self) -> bool:
        """Whether the report takes another example."""
        return len(self.examples) < MAX_EXAMPLES

    def count_page(self, page: Findings) -> None:
        """Count the findings of one page, and the results of its writes."""
        self.pages += bool(page.objects)
        if page.section == USER.section:
            self.users += page.objects
        else:
            self.related[page.section] = self.related.get(page.section, 0) + page.objects
        self.failed += page.unreadable
        self._count_links(page.links)
        for difference in page.differences:
            self._count_difference(difference, page)
        for difference, outcome in zip(page.differences, page.outcomes, strict=False):
            if not (outcome.reason or "").startswith(WAITING_FOR):
                self.count_outcome(outcome.outcome, is_drift=difference.drift is not None)

    def _count_links(self, links: Mapping[str, Link] | None) -> None:
        if links is not None:
            counts = Counter(link.kind for link in links.values())
            self.links = {kind: self.links.get(kind, 0) + counts[kind] for kind in LinkKind}

    def _count_difference(self, difference: Difference, page: Findings) -> None:
        match difference.drift:
            case Drift.MISSING:
                self.missing += 1
            case Drift.STALE:
                self.stale += 1
            case Drift.DIFFERING:
                self.differing += 1
            case None:
                return
        prefix = "" if page.section == USER.section else f"{page.section}."
        for name in difference.columns:
            self.columns[prefix + name] = self.columns.get(prefix + name, 0) + 1
        if self.has_room:
            clerk_id, kind = difference.snapshot.clerk_id, difference.drift.value
            link, values = (page.links or {}).get(clerk_id), page.values.get(clerk_id, {})
            self.examples.append(Example(clerk_id, kind, difference.columns, link, values))

    def count_deleted(self, clerk_ids: list[str]) -> None:
        """Count objects that Clerk no longer has."""
        self.deleted += len(clerk_ids)
        room = MAX_EXAMPLES - len(self.examples)
        self.examples += [Example(clerk_id, "deleted") for clerk_id in clerk_ids[:room]]

    def refuse_deletions(self, section: str, number: int) -> None:
        """Count deletions above the limit."""
        self.refused_deletions[section] = number
        self.refused += number

    def count_unlisted(self, section: str, total: int) -> None:
        """Count the objects that the lists have not shown, out of all `total` objects."""
        seen = self.users if section == USER.section else self.related.get(section, 0)
        if total > seen:
            self.unlisted[section] = total - seen
            self.failed += total - seen

    def count_outcome(self, outcome: str, *, is_drift: bool = True) -> None:
        """Count the result of one write. An object with a newer version needs none any more."""
        match outcome:
            case "applied" | "duplicate":
                self.repaired += is_drift
            case "refused":
                self.refused += 1
            case "stale":
                pass
            case _:
                self.failed += 1

    def to_json(self) -> dict[str, Any]:
        """Return the report for `--json`."""
        return {name: getattr(self, name) for name in JSON_FIELDS}


JSON_FIELDS = ("dry_run", "recent", "users", *RUN_COUNTS, "columns", "seconds", "finished")


def is_mass_deletion(deleted: int, known: int) -> bool:
    """Return whether so many deletions of `known` objects are too many to be made unasked."""
    return deleted > MAX_DELETIONS and deleted > MAX_DELETED_SHARE * known
