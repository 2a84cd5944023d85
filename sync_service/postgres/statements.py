"""The SQL of one mapping. It is held against the table, once, before anything is written to it."""

import json
from importlib.resources import files

import structlog

from sync_service.clerk.values import Snapshot
from sync_service.errors import Unfit
from sync_service.mapping.sources import PLACEHOLDER
from sync_service.mapping.table import Row, TableMapping
from sync_service.postgres.catalogue import Column, read_table
from sync_service.postgres.conversion import literal, scrubbed
from sync_service.postgres.fit import Fit, fit
from sync_service.postgres.obstacles import insisting, warnings
from sync_service.postgres.pool import Connection

log = structlog.get_logger()


class Statements:
    """The statements, as texts, from the moment that `held_against` has returned."""

    def __init__(self, mapping: TableMapping) -> None:
        """Write what can be written before the table was seen."""
        self.mapping = mapping
        self._fit: Fit | None = None
        self._changed = False
        self._names = {
            "table": f"{quoted(mapping.schema)}.{quoted(mapping.table)}",
            "clerk_id": quoted(mapping.clerk_id),
        }
        self.row = self._of("row.sql")
        self.look = self._of("look.sql")
        self.save_again = self._of("save_again.sql")
        self.apply = self.apply_one = self.resolve = self.delete = self.holder = self.release = self.give_back = ""
        self.grace = self.restore = ""
        self.link: str | None = None

    @property
    def fit(self) -> Fit:
        """How the mapping fits its table."""
        assert self._fit  # noqa: S101  whoever writes has held it against the table
        return self._fit

    async def held_against(self, connection: Connection) -> None:
        """Read the table and write the SQL for it; the second time do nothing.

        Raises `Unfit`, which names what stands in the way, and what asyncpg raises.
        """
        if self._fit is None or self._changed:
            table = await read_table(connection, self.mapping.schema, self.mapping.table)
            found, faults = fit(self.mapping, table)
            if found is None:
                raise Unfit(faults)
            for warning in warnings(self.mapping, found.table):
                log.warning("some users will not fit the table", why=warning)
            self._write(found)

    def fitted(self, snapshot: Snapshot) -> Row:
        """Return the row that shows this snapshot, in forms that the columns take."""
        row, cut = self.fit.row(snapshot)
        if cut:
            log.warning("cut to fit", table=self.mapping.name, columns=cut)
        return row

    def look_again(self) -> None:
        """Read the table anew before the next change: it is not what it was."""
        self._changed = True

    def _write(self, found: Fit) -> None:
        columns = [*([self.mapping.clerk_id] if found.writes_id else []), *found.mapping.columns]
        updates = [f"{quoted(name)} = excluded.{quoted(name)}" for name in found.mapping.columns]
        email = quoted(found.email or "")
        self._names |= {
            "id_type": _id_type(found),
            "key": quoted(found.key),
            "columns": ", ".join(map(quoted, columns)),
            "values": ", ".join(f"r.{quoted(name)}" for name in columns),
            "definitions": ", ".join(f"{quoted(name)} {found.types[name].type}" for name in columns),
            "conflict": f"update set {', '.join(updates)}" if updates else "nothing",
            "email": email,
            "held": _same_address(found, f"app.{email}", "$1"),
            "still_there": _same_address(found, email, "$2"),
            "taken": _same_address(found, f"other.{email}", "$4"),
            "released": self._nobody(found, found.email) if found.email else "null",
            "address": quoted(found.address or ""),
        }
        first = bool(insisting(found.mapping, found.table) and updates)
        self._names["assignments"] = ", ".join(f"{quoted(name)} = r.{quoted(name)}" for name in found.mapping.columns)
        self._names["unless_updated"] = (
            " and not exists (select from updated where known_id = newest.clerk_id)" if first else ""
        )
        self._names["tombstoned"] = _TOMBSTONED.format(**self._names)
        self._names["gone"] = self._gone(found)
        self._names["marked"] = self._marked(found, deleted=True)
        self._names["unmarked"] = self._marked(found, deleted=False)
        self.apply = self._changes("many", payload="($8::jsonb[])[n]", user_row="($9::jsonb[])[newest.n]", first=first)
        self.apply_one = self._changes("one", payload="$8::jsonb", user_row="$9::jsonb", first=first)
        self.resolve = self._of("resolve.sql")
        self.delete = self._of("deletion.sql")
        self.grace = self._of("grace.sql")
        self.restore = self._of("restore.sql")
        self.holder = self._of("address_holder.sql")
        self.release = self._of("address_release.sql")
        self.give_back = self._of("address_give_back.sql")
        self.link = self._of("link.sql") if self.mapping.link_by_verified_email and found.address else None
        self._fit, self._changed = found, False

    def _changes(self, told: str, *, payload: str, user_row: str, first: bool) -> str:
        """Return the statement that applies one event or many; `payload` and `user_row` are where it has them."""
        self._names |= {"told": self._of(f"changes_of_{told}.sql"), "payload": payload, "user_row": user_row}
        self._names["updated"] = self._of("update_first.sql") if first else ""
        return self._of("changes.sql")

    def probe(self, column: str) -> str:
        """Return a statement that reads just this column out of a row in JSON."""
        definition = f"{quoted(column)} {self.fit.types[column].type}"
        return f"select count(r.*) from jsonb_to_record($1::jsonb) as r ({definition})"  # noqa: S608  quoted names

    def _of(self, name: str) -> str:
        """Return a file of this package with the mapping's names in it."""
        return files(__package__).joinpath(name).read_text(encoding="utf-8").format(**self._names)

    def _gone(self, found: Fit) -> str:
        """Return what becomes of the row of a deleted user."""
        table, clerk_id, tombstoned = (self._names[name] for name in ("table", "clerk_id", "tombstoned"))
        if self.mapping.on_delete == "cascade":
            return f"delete from {table} where {tombstoned}"  # noqa: S608  quoted names
        changes = []
        if self.mapping.on_delete == "anonymize":
            for name, spec in found.mapping.columns.items():
                value = scrubbed(spec, found.types[name], clerk_id) if spec.personal else None
                changes += [f"{quoted(name)} = {value}"] if value else []
        else:
            changes += [
                f"{quoted(name)} = {self._nobody(found, name)}" for name in found.addresses if found.gives_up(name)
            ]
            # Where Neon's columns are generated, the address is taken from the document that they are read from.
            changes += [
                f"{quoted(name)} = {quoted(name)} || {literal(json.dumps({key: None}))}"
                for name, spec in found.mapping.columns.items()
                for key, source in spec.also.items()
                if source == "primary_email" and found.types[name].base == "jsonb"
            ]
        if column := found.table.column(self.mapping.deleted_at):
            changes.append(f"{quoted(column.name)} = {_now(column)}")
        settings = ", ".join(changes or [f"{clerk_id} = {clerk_id}"])
        return f"update {table} set {settings} where {tombstoned}"  # noqa: S608  quoted names

    def _marked(self, found: Fit, *, deleted: bool) -> str:
        """Return what shows in the row that a deletion is held back, or taken back, where there is a column for it."""
        table, clerk_id, id_type = (self._names[name] for name in ("table", "clerk_id", "id_type"))
        column = found.table.column(self.mapping.deleted_at)
        if column is None:
            changes = f"{clerk_id} = {clerk_id}"
        elif deleted:
            changes = f"{quoted(column.name)} = {_now(column)}"
        else:
            changes = f"{quoted(column.name)} = {'false' if column.base == 'bool' else 'null'}"
        return f"update {table} set {changes} where {clerk_id} = $1::text::{id_type}"  # noqa: S608  quoted names

    def _nobody(self, found: Fit, column: str) -> str:
        """Return what stands in a column of addresses for one that is given up."""
        text = found.nobody(column)
        if text is None:
            return "null"
        return f"replace({literal(text)}, {literal(PLACEHOLDER)}, {self._names['clerk_id']}::text)"


# An operator may have taken the deletion back: only what has a tombstone goes.
_TOMBSTONED = """{clerk_id} = any(array(
        select known.clerk_id::{id_type} from clerk_sync.identities as known
        where known.clerk_id = any($1::text[]) and known.deleted_at is not null
    ))"""


def quoted(identifier: str) -> str:
    """Quote a name of the mapping: the only way by which one gets into SQL."""
    return '"' + identifier.replace('"', '""') + '"'


def _id_type(found: Fit) -> str:
    """Return the type in which Clerk IDs are compared: a cast to varchar(40) would make one ID of two long ones."""
    column = found.types[found.mapping.clerk_id]
    return column.base if column.base in {"text", "varchar", "bpchar"} else column.type


def _same_address(found: Fit, column: str, parameter: str) -> str:
    """Return SQL that compares an address as the table's unique index does."""
    if not found.email:
        return "false"
    if found.folded:
        return f"lower({column}::text) = lower({parameter}::text)"
    return f"{column} = {parameter}::text::{found.types[found.email].type}"


def _now(column: Column) -> str:
    if column.base == "bool":
        return "true"
    now = "(now() at time zone 'utc')" if column.base == "timestamp" else "now()"
    return f"coalesce({quoted(column.name)}, {now})"
