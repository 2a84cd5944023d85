"""Looks at all of it, one thing after another, and returns the findings; changes nothing."""

from collections.abc import Callable, Iterable
from typing import TypeAlias

import asyncpg

from sync_service.clerk.instance import instance_of_host, instance_of_key, known_users
from sync_service.doctor.columns import column_findings
from sync_service.doctor.findings import Finding
from sync_service.doctor.graph import references
from sync_service.doctor.inbox import inbox_findings
from sync_service.doctor.keys import instance_findings, jwks_url, key_findings
from sync_service.doctor.loose import stray_findings, strays
from sync_service.doctor.people import people_findings
from sync_service.doctor.references import reference_findings
from sync_service.doctor.server import server_findings
from sync_service.doctor.table import missing_table, table_findings
from sync_service.postgres.catalogue import Table, read_table
from sync_service.postgres.counts import Counter, Inbox
from sync_service.postgres.schema import schema_state
from sync_service.postgres.survey import (
    Server,
    briefly,
    read_foreign_keys,
    read_loose_columns,
    read_server,
)
from sync_service.settings import Settings

Tell: TypeAlias = Callable[[str], None]


class Examination:
    """The findings so far stay in `findings`, whatever happens on the way."""

    def __init__(self, settings: Settings, tell: Tell = lambda _: None) -> None:
        """Say with `tell` what is being looked at."""
        self.settings = settings
        self.findings: list[Finding] = []
        self._tell = tell
        self._key_is_right = False
        self._users: int | None = None
        self._going: set[tuple[str, str]] = set()

    async def of_clerk(self, inbox: Inbox | None = None) -> None:
        """Look at the keys, and ask Clerk whose they are. `inbox` tells whose events were accepted."""
        settings = self.settings
        self._tell("the keys")
        self._add(key_findings(settings))
        secret = publishable = None
        if key := settings.clerk_secret_key:
            secret = await instance_of_key(settings.clerk_api_url, key)
        if (url := jwks_url(settings)) and settings.clerk_publishable_key:
            publishable = await instance_of_host(url)
        pinned = inbox.pinned if inbox else None
        self._add(instance_findings(settings, pinned, secret, publishable))
        expected = settings.clerk_instance_id or pinned
        named = secret.instances if secret else frozenset()
        self._key_is_right = bool(secret and secret.status == 200 and (not (expected and named) or expected in named))

    async def of_database(self, connection: asyncpg.Connection) -> None:
        """Look at the database. Raises what asyncpg raises."""
        assert self.settings.database  # noqa: S101  there is a connection
        self._tell("the database")
        server, counter = await read_server(connection), Counter(connection)
        state = None if "migrations" in server.refused else await schema_state(connection)
        self._add(server_findings(server, self.settings.database, state))
        inbox = None
        if state and state.ready and not server.refused:
            inbox = await counter.inbox()
            self._add(inbox_findings(inbox, len(self.settings.clerk_webhook_signing_secrets)))
        await self.of_clerk(inbox)
        async with briefly(connection):
            table = await read_table(connection, self.settings.mapping.schema, self.settings.mapping.table)
        if table is None:
            self.findings.append(missing_table(self.settings.mapping))
        else:
            await self._of_table(connection, counter, table, server, inbox)

    async def _of_table(
        self, connection: asyncpg.Connection, counter: Counter, table: Table, server: Server, inbox: Inbox | None
    ) -> None:
        mapping = self.settings.mapping
        self._add(table_findings(mapping, table, server))
        self._add(column_findings(mapping, table))
        if table.kind not in {"r", "p"} or "SELECT" not in table.privileges:
            return
        await self._of_people(counter, table, inbox)
        await self._of_references(connection, counter, table)
        loose = await read_loose_columns(connection, table.oid)
        for stray in strays(mapping, table, loose, self._going):
            self._tell(stray.column.where)
            rows = orphans = None
            if stray.means:
                rows, orphans = await counter.loose_orphans(stray.column, table, stray.means)
            self._add(stray_findings(mapping, table, stray, rows, orphans))

    async def _of_people(self, counter: Counter, table: Table, inbox: Inbox | None) -> None:
        mapping, settings = self.settings.mapping, self.settings
        self._tell(f"the users of {mapping.name}")
        users = await counter.users(mapping, table, ours=inbox is not None)
        asked, unknown = 0, 0
        if users.never_seen and self._key_is_right and settings.clerk_secret_key:
            ids = await counter.never_seen(mapping, table)
            known = await known_users(settings.clerk_api_url, settings.clerk_secret_key, ids) if ids else None
            if known is not None:
                asked, unknown = len(ids), len(set(ids) - known)
        self._add(people_findings(mapping, table, users, asked=asked, unknown=unknown))
        self._users = users.rows

    async def _of_references(self, connection: asyncpg.Connection, counter: Counter, table: Table) -> None:
        mapping = self.settings.mapping
        found = references(table.oid, await read_foreign_keys(connection, table.oid))
        self._going = {(r.key.schema, r.key.table) for r in found if r.goes}
        deleted_at = table.column(mapping.deleted_at) if mapping.on_delete != "cascade" else None
        rows: dict[int, int | None] = {}
        most: dict[tuple[int, str], int | None] = {}
        left: dict[tuple[int, str], int | None] = {}
        for reference in found:
            key = reference.key
            self._tell(f"{key.schema}.{key.table}")
            if key.child not in rows:
                rows[key.child] = await counter.rows(key)
            if reference.goes and reference.path and mapping.on_delete == "cascade":
                most[key.child, key.name] = await counter.most(reference.path)
            if reference.goes and key.parent == table.oid and deleted_at:
                left[key.child, key.name] = await counter.of_the_deleted(key, deleted_at)
        self._add(reference_findings(mapping, found, users=self._users, rows=rows, most=most, left=left))

    def _add(self, findings: Iterable[Finding]) -> None:
        self.findings += findings
