"""The column of a table that holds the Clerk ID of the row's user (pure)."""

from collections.abc import Iterator
from dataclasses import dataclass

from sync_service.suggest.names import ORGANIZATIONS, has_word, normalize, parse_words
from sync_service.suggest.overview import ID_NAMES, ColumnOverview, IdCount, Overview, TableOverview

_OTHER_THINGS = ORGANIZATIONS | parse_words(
    "session client metadata data json raw secret email image webhook event username name status role url phone token"
    " handle nickname slug code"
)
# Names of other keys too: in a feed of products, or of the user who wrote a row.
_AMBIGUOUS_NAMES = frozenset({"userid", "uid", "externalid", "externalref", "sub", "subject", "providerid"})
# A column with such a word names another user than that of the row.
_OTHER_PEOPLE = parse_words(
    "by author creator owner inviter referrer sender recipient receiver parent manager assignee reviewer approver"
    " follower sponsor supervisor coach mentor partner"
)
_KEY_NAMES = frozenset({"id", "userid", "uid", "clerkid"})


@dataclass(frozen=True, slots=True)
class ClerkId:
    """The column, the strength of the evidence from 1 to 8, and the evidence as the end of a sentence."""

    column: str
    strength: int
    reason: str


def choose_clerk_id(overview: Overview, table: TableOverview) -> ClerkId | None:
    """Return the column that holds the Clerk ID; None if no column can."""
    return max(_list_candidates(overview, table), key=lambda found: (found.strength, _rank_name(found)), default=None)


def _rank_name(found: ClerkId) -> int:
    name = normalize(found.column)
    if "clerk" in name:
        return 1
    return -ID_NAMES.index(name) if name in ID_NAMES else -len(ID_NAMES)


def _list_candidates(overview: Overview, table: TableOverview) -> Iterator[ClerkId]:
    is_of_organization = has_word(table.name, ORGANIZATIONS)
    for column in table.columns:
        if not column.can_hold_id or has_word(column.name, _OTHER_THINGS):
            continue
        count = overview.count_ids(table, column)
        found = _judge_values(column, count) if count else _judge_name(column)
        if found and not (is_of_organization and count is None):
            yield found


def _judge_values(column: ColumnOverview, count: IdCount) -> ClerkId | None:
    if count.users * 2 > count.values:
        if column.unique:
            return ClerkId(column.name, 8, f"its column {column.name} holds Clerk IDs (user_…)")
        if count.different == count.values and not has_word(column.name, _OTHER_PEOPLE):
            strength = 6 if column.is_named_as_id else 5
            return ClerkId(column.name, strength, f"its column {column.name} holds Clerk IDs (user_…), each once")
        return None
    # Rows of a test or of another system may have other IDs, but an ID of an organization is no user's.
    if column.is_named_clerk and not count.others and not column.primary and count.different == count.values:
        return ClerkId(column.name, 4, f"its column {column.name} is named after Clerk's ID")
    return None


def _judge_name(column: ColumnOverview) -> ClerkId | None:
    name = normalize(column.name)
    if column.is_named_clerk:
        return ClerkId(column.name, 5 if column.unique else 4, f"its column {column.name} is named after Clerk's ID")
    if column.primary:
        # A key with a default is generated, so it is not Clerk's.
        is_plausible = name in _KEY_NAMES and not column.has_default
        return ClerkId(column.name, 1, f"its key {column.name} can hold the Clerk ID") if is_plausible else None
    if name in ID_NAMES and (column.unique or name not in _AMBIGUOUS_NAMES):
        strength = 1 if name in _AMBIGUOUS_NAMES else 3 + column.unique
        return ClerkId(column.name, strength, f"its column {column.name} can hold the Clerk ID")
    return None
