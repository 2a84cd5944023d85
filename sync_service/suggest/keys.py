"""The key of a new row (pure)."""

from sync_service.mapping.introspection import Column
from sync_service.suggest.evidence import Evidence
from sync_service.suggest.key_formats import choose_nanoid, find_generator, fits
from sync_service.suggest.rules import Decision, give_up, leave

# The keys that a framework generates for a text column, where no row shows the format.
_USUAL_GENERATORS = {"Prisma": "cuid", "Drizzle": "cuid2"}
# For a column that is too short for the usual one, from the longest to the shortest.
_SHORTER = ("ulid", "cuid", "cuid2")


def decide_key(facts: Evidence, column: Column) -> Decision:
    """Return the generator of the key, or the reason why the service needs none."""
    if column.has_default:
        return leave("the app's key, from its default")
    if column.filled_by:
        return leave(f"the app's key, from the trigger {column.filled_by}")
    if reference := facts.find_reference(column.name):
        parent = f"{reference.parent_schema}.{reference.parent_table}"
        return give_up(f"the key refers to a row of {parent}, which must exist first")
    if len(facts.table.primary_key) > 1:
        return give_up(f"it is part of the key ({', '.join(facts.table.primary_key)}), and no fact shows its value")
    if column.category != "S" and column.base != "uuid":
        return give_up(f"the key is {column.type} without a default; sync-service doctor prints the SQL that adds one")
    return _choose_generator(facts, column)


def _choose_generator(facts: Evidence, column: Column) -> Decision:
    keys = facts.keys.get(column.name, ())
    if generator := find_generator(keys):
        spec = _fit(generator, column)
        return Decision({"generate": spec}, f"the app's key, in the format of the {len(keys)} keys that were read")
    if keys:
        return give_up("the app's key, in a format that no generator has; add a default in the database")
    if column.base == "uuid":
        return Decision({"generate": "uuid4"}, "the app's key; no row shows its version")
    if generator := find_generator(facts.other_keys):
        return Decision({"generate": _fit(generator, column)}, "the app's key, in the format of its other tables' keys")
    usual = _USUAL_GENERATORS.get(facts.framework or "", "uuid4")
    guess = next((guess for guess in (usual, *_SHORTER) if fits(guess, column.length)), choose_nanoid(column.length))
    if guess is None:
        return give_up("the app's key, too short for a random one; add a default in the database")
    return Decision({"generate": guess}, "the app's key; a guess, for no row shows the format: check it")


def _fit(generator: str, column: Column) -> str:
    """Return the generator, without a prefix where the column is a UUID."""
    return generator if column.base != "uuid" or generator in {"uuid4", "uuid7"} else "uuid4"
