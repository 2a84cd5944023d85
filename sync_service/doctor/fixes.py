"""Building blocks of the statements that a finding prints; each statement is complete and safe on a live table (pure).

No statement waits longer than a second for a lock that blocks readers or writers. It gives up instead, and the owner
runs it again. An index is built CONCURRENTLY; a constraint is added NOT VALID and validated afterwards.
"""

from collections.abc import Sequence

from sync_service.postgres.sql import quote_table

# PostgreSQL cuts longer names (NAMEDATALEN - 1 bytes).
MAX_NAME_BYTES = 63


def alter_table(schema: str, table: str, action: str, *, then: str = "") -> str:
    """Return a transaction with one ALTER TABLE that waits a second for its lock, and the statement `then` after it.

    The timeout is set inside the transaction, because a transaction pooler keeps no session settings.
    """
    statements = ["begin;", "set local lock_timeout = '1s';", f"alter table {quote_table(schema, table)} {action};"]
    if then:
        statements.append(then)
    return " ".join([*statements, "commit;"])


def alter_with_parent(child: str, parent: str, action: str) -> str:
    """Return a block that locks two tables and alters the child table. `child` and `parent` are quoted names.

    Another session may hold one table and wait for the other, which is a deadlock; PostgreSQL may then cancel the app's
    statement. So the block waits 100 ms for both locks, releases them, and tries again, up to 100 times.
    """
    return _RETRY_BLOCK.format(child=child, parent=parent, action=action)


def choose_name(parts: Sequence[str], taken: set[str]) -> str:
    """Return a free name in PostgreSQL's form, for instance `users_email_key`, cut to the maximum length."""
    *stem_parts, ending = parts
    stem = "_".join(stem_parts).encode()
    for number in range(1, 100):
        suffix = f"_{ending}{number if number > 1 else ''}"
        name = stem[: MAX_NAME_BYTES - len(suffix)].decode(errors="ignore") + suffix
        if name not in taken:
            return name
    return name


_RETRY_BLOCK = """\
do $cure$ begin
    set local lock_timeout = '100ms';
    for attempt in 1..100 loop
        begin
            lock table {child}, {parent} in share row exclusive mode;
            alter table {child} {action};
            return;
        exception when lock_not_available or deadlock_detected then
            perform pg_sleep(random() / 2);
        end;
    end loop;
    raise lock_not_available using message = 'the two tables were never free at the same time: run it again';
end $cure$;"""
