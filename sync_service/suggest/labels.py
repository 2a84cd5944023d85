"""The category of a new user: a label of an enum, of a check constraint, or of existing rows (pure)."""

from collections.abc import Sequence

from sync_service.mapping.introspection import Column
from sync_service.suggest.evidence import Evidence
from sync_service.suggest.names import CATEGORIES, LANGUAGES, RIGHTS, has_word, normalize, parse_words, split_words
from sync_service.suggest.rules import Decision, give_up, write_once

_HIGHER = (RIGHTS - {"role", "roles"}) | parse_words(
    "administrator super manager mod editor author support employee internal system service bot developer"
    " pro paid premium plus business enterprise team gold platinum vip max maxx lifetime"
)
_LOWEST = parse_words(
    "user member reader viewer guest customer free basic standard default regular normal student client starter"
    " subscriber player none visitor hobby"
)
_CLOSED = parse_words(
    "deleted removed closed erased terminated left deactivated archived inactive disabled suspended banned blocked"
    " locked cancelled canceled expired rejected invited"
)
_PLANS = frozenset({"plan", "tier", "level", "subscription"})


def choose_label(facts: Evidence, column: Column) -> Decision | None:
    """Return the rule for a column that holds a category; None for any other column."""
    permitted = facts.list_labels(column)
    if column.category == "E" or (permitted and column.category == "S"):
        return _choose_permitted(facts, column, permitted)
    if column.category != "S" or not has_word(column.name, CATEGORIES) or facts.is_unique(column.name):
        return None
    rows = facts.read_rows(column.name)
    if rows.labels:
        label = _choose(facts, column, sorted(rows.labels, key=lambda label: -rows.labels[label]))
        return label or give_up("each value in its rows grants rights or belongs to a closed account")
    guess = _guess(column)
    if guess is None:
        return None
    return write_once({"constant": guess}, "NOT NULL; a guess, for no row shows the app's values: check it")


def _choose_permitted(facts: Evidence, column: Column, permitted: Sequence[str]) -> Decision:
    found = _choose(facts, column, permitted)
    if found:
        return found
    if not permitted:
        return give_up("its enum has no label")
    return write_once({"constant": permitted[0]}, "NOT NULL: the first label; check that a new user may have it")


def _choose(facts: Evidence, column: Column, labels: Sequence[str]) -> Decision | None:
    """Return the label of a new user: without rights, of an open account, and common in the rows."""
    lowest = next((label for label in labels if has_word(label, _LOWEST)), None)
    if lowest is not None and has_word(column.name, RIGHTS | _PLANS):
        return write_once({"constant": lowest}, "NOT NULL: the value with the fewest rights")
    open_labels = [label for label in labels if not has_word(label, _HIGHER | _CLOSED)]
    if not open_labels:
        return None
    rows = facts.read_rows(column.name)
    # `clerk` in a column such as `provider`: most rows may be older than Clerk.
    common = max(open_labels, key=lambda label: (normalize(label) in {"active", "clerk"}, rows.labels.get(label, 0)))
    reason = "the first label"
    if rows.labels.get(common):
        reason = "a usual value in the rows"
    return write_once({"constant": common}, f"NOT NULL: {reason}")


def _guess(column: Column) -> str | None:
    guess = _guess_by_name(column)
    return guess if guess and (column.length is None or len(guess) <= column.length) else None


def _guess_by_name(column: Column) -> str | None:
    words = set(split_words(column.name))
    if words & LANGUAGES:
        return "en"
    if words & {"timezone", "tz", "zone"}:
        return "UTC"
    if "status" in words:
        return "active"
    if words & {"provider", "source"}:
        return "clerk"
    if words & RIGHTS:
        return "user"
    return "free" if words & _PLANS else None
