"""Values for new rows in columns that the app's ORM fills: NOT NULL without a default (pure)."""

import re
from collections.abc import Callable, Mapping

from sync_service.mapping.coercion import JSON_TYPES
from sync_service.mapping.introspection import Column
from sync_service.mapping.presets import PLACEHOLDER_EMAIL
from sync_service.suggest.evidence import Evidence
from sync_service.suggest.key_formats import choose_nanoid, find_generator, fits
from sync_service.suggest.labels import choose_label
from sync_service.suggest.names import CATEGORIES, RIGHTS, has_word, normalize, parse_words, split_words
from sync_service.suggest.rules import Decision, give_up, write_once
from sync_service.suggest.times import fill_time

_PASSWORD = re.compile(r"(?:hashed|encrypted|user)?(?:password|passwd|pwd)(?:hash|digest|encrypted)?|passhash")
# Flags without which a user cannot sign in. `two_factor_enabled` is none of them.
_ON_BY_DEFAULT = parse_words(
    "active isactive enabled isenabled activated isactivated useractive accountactive accountenabled useraccountenabled"
    " accountnonexpired accountnonlocked credentialsnonexpired"
)
# A preference that most existing users have is on for new users too. Consent is never assumed.
_PREFERENCES = parse_words("notify notification notifications visible public show")
_ADDRESSES = parse_words("email mail emailaddress")


def fill_column(facts: Evidence, column: Column) -> Decision:
    """Return the rule that fills the column on insert, or the reason why no value can be guessed."""
    if reference := facts.find_reference(column.name):
        return _fill_reference(facts, column, f"{reference.parent_schema}.{reference.parent_table}")
    if _is_id_of_another(facts, column):
        return give_up("it looks like the ID of another row, and no foreign key shows which one")
    decision = choose_label(facts, column) or _choose_filler(column)(facts, column)
    is_constant = isinstance(decision.spec, Mapping) and "constant" in decision.spec
    if is_constant and facts.table.is_unique_on(column.name):
        return give_up("it is unique, so no constant can fill it")
    return decision


def _is_id_of_another(facts: Evidence, column: Column) -> bool:
    words = split_words(column.name)
    return len(words) > 1 and words[-1] == "id" and not facts.is_unique(column.name)


def _choose_filler(column: Column) -> Callable[[Evidence, Column], Decision]:
    """Return the function that fills a column of this type."""
    if column.base == "uuid":
        return _fill_uuid
    if column.base in JSON_TYPES:
        return _fill_json
    return _BY_CATEGORY.get(column.category, _fill_unknown)


def _fill_uuid(facts: Evidence, column: Column) -> Decision:
    is_sorted = find_generator(facts.keys.get(column.name, ())) == "uuid7"
    return write_once({"generate": "uuid7" if is_sorted else "uuid4"}, "NOT NULL: a new one for each user")


def _fill_json(facts: Evidence, column: Column) -> Decision:
    is_list = facts.read_rows(column.name).most_common == "array"
    return write_once({"constant": [] if is_list else {}}, "NOT NULL: empty until the app fills it")


def _fill_list(_: Evidence, __: Column) -> Decision:
    return write_once({"constant": []}, "NOT NULL: an empty list until the app fills it")


def _fill_unknown(_: Evidence, column: Column) -> Decision:
    return give_up(f"no value of {column.type} can be guessed")


def _fill_reference(facts: Evidence, column: Column, parent: str) -> Decision:
    rows = facts.read_rows(column.name)
    common = rows.most_common
    is_lookup = has_word(column.name, CATEGORIES | RIGHTS) or has_word(parent, CATEGORIES | RIGHTS)
    if is_lookup and common is not None and rows.labels[common] * 2 > rows.values > 1:
        constant = int(common) if column.category == "N" else common
        return write_once({"constant": constant}, f"the row of {parent} that most users have; check its rights")
    return give_up(f"it refers to a row of {parent}, and no fact shows which one")


def _fill_flag(facts: Evidence, column: Column) -> Decision:
    rows = facts.read_rows(column.name)
    is_on = normalize(column.name) in _ON_BY_DEFAULT
    if has_word(column.name, _PREFERENCES):
        is_on = rows.labels.get("true", 0) * 2 > rows.values
    return write_once({"constant": is_on}, "NOT NULL; only the app changes it")


def _fill_number(facts: Evidence, column: Column) -> Decision:
    rows = facts.read_rows(column.name)
    common = rows.most_common
    is_usual = common is not None and (has_word(column.name, CATEGORIES) or rows.labels[common] * 2 > rows.values)
    if common is not None and common.isdecimal() and is_usual:
        return write_once({"constant": int(common)}, "NOT NULL: the most frequent value in the rows; check its meaning")
    for check in facts.list_checks(column.name):
        if first := re.search(r"ARRAY\[(\d+)", check.definition):
            return write_once({"constant": int(first[1])}, f"NOT NULL: the first value of {check.definition}; check it")
        bound = re.search(rf'"?{re.escape(column.name)}"? (>=?) \(?(\d+)', check.definition)
        if bound:
            lowest = int(bound[2]) + (bound[1] == ">")
            return write_once({"constant": lowest}, f"NOT NULL; {check.definition} permits no lower number")
    number = int(normalize(column.name) in _ON_BY_DEFAULT)
    return write_once({"constant": number}, "NOT NULL; only the app changes it")


def _fill_text(facts: Evidence, column: Column) -> Decision:
    if _PASSWORD.fullmatch(normalize(column.name)):
        return write_once({"constant": "!"}, "NOT NULL; no password matches it, so Clerk stays the only sign-in")
    if facts.is_unique(column.name):
        return _generate_code(facts, column)
    checks = facts.list_checks(column.name)
    if checks and not re.search(r"length\([^<=]*(<|<=) ", checks[0].definition):
        return give_up(f"its constraint {checks[0].definition} may refuse any guess")
    return write_once({"constant": ""}, "NOT NULL; Clerk has no such value")


def _generate_code(facts: Evidence, column: Column) -> Decision:
    if has_word(column.name, _ADDRESSES):
        spec = {"from": "primary_email", "when_null": PLACEHOLDER_EMAIL}
        return write_once(spec, "NOT NULL and unique; the app may change it")
    found = find_generator(facts.keys.get(column.name, ()))
    generator = found if found and fits(found, column.length) else choose_nanoid(column.length)
    if facts.list_checks(column.name):
        return give_up("it is unique and has a constraint, so no generated value is certain to fit")
    if generator is None:
        return give_up("it is unique and too short for a random value")
    return write_once({"generate": generator}, "NOT NULL and unique: a random value for each user")


_BY_CATEGORY: Mapping[str, Callable[[Evidence, Column], Decision]] = {
    "A": _fill_list,
    "B": _fill_flag,
    "D": fill_time,
    "N": _fill_number,
    "S": _fill_text,
}
