"""The table that holds the app's users, among all its tables (pure)."""

from dataclasses import dataclass

from sync_service.mapping.presets import DEFAULT
from sync_service.suggest.clerk_ids import ClerkId, choose_clerk_id
from sync_service.suggest.names import ORGANIZATIONS, has_word, normalize, parse_words, split_words
from sync_service.suggest.overview import Overview, TableOverview
from sync_service.suggest.source_names import is_email_name, is_person_name

_USER_NAMES = frozenset({"users", "user", "appusers", "appuser", "userssync"})
_LIKELY_NAMES = parse_words(
    "accounts account profiles profile members member customers customer people persons person"
    " userprofiles userprofile useraccounts useraccount userdata"
)
# Tables between the users and their ways to sign in.
_LINKS = parse_words(
    "identity identities link links login logins credential credentials session sessions token tokens provider"
    " providers sso oauth mapping mappings"
)
_FORMER = parse_words("deleted blocked archived old backup bak tmp temp pending invited banned test audit history")

# The least score of a users table, and the points for each piece of evidence.
MIN_SCORE = 8
# The least score where no table reaches the other one: a usual name alone.
MIN_SCORE_OF_NAME = 5
_POINTS_USER_NAME, _POINTS_LAST_WORD, _POINTS_LIKELY_NAME = 8, 7, 5
_POINTS_EMAIL, _POINTS_PERSON, _POINTS_REFERENCED = 4, 1, 2
_POINTS_LINK = -6
# Weaker evidence of a column for the Clerk ID does not make a parent a table of users.
_MIN_STRENGTH = 4
_POINTS_CHILD, _POINTS_ORGANIZATION, _POINTS_DEFAULT_TABLE = -6, -6, -6

_DEFAULT_COLUMNS = {DEFAULT.id_column, *DEFAULT.columns}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A table that may hold the users, with its score, its column for the Clerk ID, and the reasons."""

    table: TableOverview
    score: int
    clerk_id: ClerkId | None
    reasons: tuple[str, ...]


def list_candidates(overview: Overview, min_score: int = MIN_SCORE) -> list[Candidate]:
    """Return the tables that look like the users table, the likeliest first."""
    scored = [score_table(overview, table) for table in overview.tables]
    candidates = [found for found in scored if found.score >= min_score and (_is_named(found.table) or found.clerk_id)]
    return sorted(candidates, key=lambda found: (-found.score, found.table.schema != "public", found.table.id))


def score_table(overview: Overview, table: TableOverview) -> Candidate:
    """Return the table with its score."""
    clerk_id = choose_clerk_id(overview, table)
    name_points, name_reason = _judge_name(table.name)
    score, reasons = name_points, [name_reason]
    if clerk_id:
        score += clerk_id.strength
        reasons.append(clerk_id.reason)
    if any(column.category == "S" and is_email_name(column.name) for column in table.columns):
        score += _POINTS_EMAIL
        reasons.append("it has a column for the email")
    score += _POINTS_PERSON * any(is_person_name(column.name) for column in table.columns)
    if _count_children(overview, table):
        score += _POINTS_REFERENCED
        reasons.append("other tables refer to it")
    score += _POINTS_CHILD * _is_child(overview, table)
    # A default table beside the app's own table was created by mistake.
    score += _POINTS_DEFAULT_TABLE * ({column.name for column in table.columns} == _DEFAULT_COLUMNS)
    return Candidate(table, score, clerk_id, tuple(filter(None, reasons)))


def _judge_name(name: str) -> tuple[int, str]:
    words = split_words(name)
    if has_word(name, ORGANIZATIONS):
        return _POINTS_ORGANIZATION, ""
    if has_word(name, _LINKS):
        return _POINTS_LINK, ""
    if has_word(name, _FORMER):
        return 0, ""
    if normalize(name) in _USER_NAMES:
        return _POINTS_USER_NAME, "its name is usual for a users table"
    if words and words[-1] in {"user", "users"}:
        return _POINTS_LAST_WORD, "its name is usual for a users table"
    return (_POINTS_LIKELY_NAME, "its name is usual for a users table") if normalize(name) in _LIKELY_NAMES else (0, "")


def _is_named(table: TableOverview) -> bool:
    return _judge_name(table.name)[0] > 0


def _count_children(overview: Overview, table: TableOverview) -> int:
    return sum(
        reference.parent == table.id
        for other in overview.tables
        if other.id != table.id
        for reference in other.references
    )


def _is_child(overview: Overview, table: TableOverview) -> bool:
    """Return whether the table refers to a more likely table of users, as a profile or a link does."""
    parents = [overview.find(*reference.parent) for reference in table.references if reference.parent != table.id]
    return any(parent is not None and _may_hold_users(overview, parent) for parent in parents)


def _may_hold_users(overview: Overview, table: TableOverview) -> bool:
    points = _judge_name(table.name)[0]
    clerk_id = choose_clerk_id(overview, table)
    has_ids = clerk_id is not None and clerk_id.strength >= _MIN_STRENGTH
    return points >= _POINTS_LAST_WORD or (points >= 0 and has_ids)
