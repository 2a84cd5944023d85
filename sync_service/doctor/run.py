"""Run all checks, one after another, and collect their findings. No check changes anything."""

from collections.abc import Iterable

import asyncpg

from sync_service.clerk.entities import USER
from sync_service.clerk.instance_lookup import (
    InstanceLookup,
    find_known_users,
    look_up_host_instance,
    look_up_key_instance,
)
from sync_service.doctor.app_rules import check_app_rules
from sync_service.doctor.carry_over import check_target, report_missing_target
from sync_service.doctor.clerk_keys import check_instances, check_keys, report_missing_signing_secret
from sync_service.doctor.columns import check_columns
from sync_service.doctor.counts import Counter
from sync_service.doctor.drift import check_drift, count_drift
from sync_service.doctor.family import FamilyCounts, check_family, count_family
from sync_service.doctor.findings import Finding
from sync_service.doctor.hints import Hints, read_hints
from sync_service.doctor.inbox import check_inbox, report_inbox
from sync_service.doctor.inbox_counts import InboxCounts, count_inbox
from sync_service.doctor.introspection import Server, read_server
from sync_service.doctor.references import ProgressCallback, ReferenceChecks
from sync_service.doctor.server import check_server
from sync_service.doctor.table import check_table, report_missing_table
from sync_service.doctor.user_counts import UserCounts, count_users, sample_unknown_ids
from sync_service.doctor.user_stats import ClerkSample, check_users
from sync_service.mapping.introspection import Table, read_table
from sync_service.mapping.table import TableMapping
from sync_service.postgres.limited_read import begin_limited_read
from sync_service.postgres.migrate import read_schema_state
from sync_service.postgres.pool import Connection
from sync_service.settings import Settings
from sync_service.store.carried_rows import read_target


class CheckRun:
    """One run of the checks. `findings` grows during the run, so an error keeps the findings before it.

    Without `receives_webhooks` the webhooks are not checked: a copy of a database gets none.
    """

    def __init__(
        self,
        settings: Settings,
        on_progress: ProgressCallback = lambda _: None,
        *,
        receives_webhooks: bool = True,
    ) -> None:
        self.settings = settings
        self.findings: list[Finding] = []
        self._on_progress = on_progress
        self._receives_webhooks = receives_webhooks
        self._can_trust_secret_key = False

    async def check_clerk(self, inbox: InboxCounts | None = None) -> None:
        """Check the Clerk keys, and ask Clerk for their instance. `inbox` has the instance of the accepted events."""
        settings = self.settings
        self._on_progress("the keys")
        self._add(check_keys(settings))
        secret = publishable = None
        if key := settings.clerk_secret_key:
            secret = await look_up_key_instance(settings.clerk_api_url, key)
        if (url := settings.jwks_url) and settings.clerk_publishable_key:
            publishable = await look_up_host_instance(url)
        pinned_instance = inbox.pinned_instance if inbox else None
        self._add(check_instances(settings, pinned_instance, secret, publishable))
        self._can_trust_secret_key = _has_expected_instance(secret, settings.clerk_instance_id or pinned_instance)

    async def check_database(self, connection: asyncpg.Connection) -> None:
        """Check the database, the Clerk keys and the users table. Raises errors of asyncpg."""
        assert self.settings.database  # noqa: S101  the caller has connected with it
        self._on_progress("the database")
        server, counter = await read_server(connection), Counter(connection)
        state = None if "migrations" in server.unwritable_tables else await read_schema_state(connection)
        self._add(check_server(server, self.settings.database, state))
        inbox = None
        if state and state.is_ready and not server.unwritable_tables:
            inbox = await count_inbox(counter)
            self._add(self._check_inbox(inbox))
        await self.check_clerk(inbox)
        users = await self._read_table(connection, self.settings.mapping)
        references = ReferenceChecks(counter, self._on_progress)
        if users:
            await self._check_table(counter, references, users, server, has_identities=inbox is not None)
        await self._check_related(counter, references, users, server, has_schema=inbox is not None)

    async def _read_table(self, connection: Connection, mapping: TableMapping) -> Table | None:
        async with begin_limited_read(connection):
            table = await read_table(connection, mapping.schema, mapping.table)
        if table is None:
            self.findings.append(report_missing_table(mapping))
        return table

    def _check_inbox(self, inbox: InboxCounts) -> Iterable[Finding]:
        if self._receives_webhooks:
            return check_inbox(inbox, len(self.settings.clerk_webhook_signing_secrets))
        return [report_missing_signing_secret(), report_inbox(inbox)]

    async def _check_table(
        self, counter: Counter, references: ReferenceChecks, table: Table, server: Server, *, has_identities: bool
    ) -> None:
        mapping = self.settings.mapping
        is_readable = table.kind in {"r", "p"} and "SELECT" in table.privileges
        hints = await read_hints(counter.connection, mapping, table) if is_readable else Hints()
        self._add(check_table(mapping, table, server, hints))
        self._add(check_columns(mapping, table))
        self._add(check_app_rules(mapping, table, hints))
        await self._check_carry_over(counter, table, server)
        if not is_readable:
            return
        users = await self._check_users(counter, table, has_identities=has_identities)
        async for finding in references.check_users(mapping, table, users.rows):
            self.findings.append(finding)

    async def _check_related(
        self, counter: Counter, references: ReferenceChecks, users: Table | None, server: Server, *, has_schema: bool
    ) -> None:
        """Check the tables of sessions, organizations and memberships, parents first."""
        tables = {USER.name: (self.settings.mapping, users)} if users else {}
        for mapping in self.settings.mapping.related:
            self._on_progress(mapping.name)
            table = await self._read_table(counter.connection, mapping)
            if table is None:
                continue
            tables[mapping.entity] = (mapping, table)
            self._add(check_table(mapping, table, server, Hints()))
            self._add(check_columns(mapping, table))
            counts = await count_family(counter, mapping) if has_schema else FamilyCounts()
            self._add(check_family(mapping, table, tables, counts))
            async for finding in references.check_related(mapping, table, tables):
                self.findings.append(finding)

    async def _check_carry_over(self, counter: Counter, table: Table, server: Server) -> None:
        mapping = self.settings.mapping
        for entry in mapping.carry_over:
            self._on_progress(entry.table_name)
            async with begin_limited_read(counter.connection):
                target = await read_target(counter.connection, entry, table)
            if target is None:
                self.findings.append(report_missing_target(entry))
            else:
                self._add(check_target(mapping, table, target, server.role))

    async def _check_users(self, counter: Counter, table: Table, *, has_identities: bool) -> UserCounts:
        mapping = self.settings.mapping
        self._on_progress(f"the users of {mapping.name}")
        users = await count_users(counter, mapping, table, has_identities=has_identities)
        sample = await self._sample_unknown_ids(counter, table) if users.unknown_ids else ClerkSample()
        self._add(check_users(mapping, table, users, sample))
        if has_identities:
            drift = await count_drift(counter, mapping, table)
            self._add(check_drift(mapping, drift, has_secret_key=self.settings.clerk_secret_key is not None))
        return users

    async def _sample_unknown_ids(self, counter: Counter, table: Table) -> ClerkSample:
        """Ask Clerk about some IDs that sync-service does not know; a key of another instance would know none."""
        key = self.settings.clerk_secret_key
        if not (key and self._can_trust_secret_key):
            return ClerkSample()
        ids = await sample_unknown_ids(counter, self.settings.mapping, table)
        known = await find_known_users(self.settings.clerk_api_url, key, ids) if ids else None
        return ClerkSample() if known is None else ClerkSample(len(ids), len(set(ids) - known))

    def _add(self, findings: Iterable[Finding]) -> None:
        self.findings += findings


def _has_expected_instance(secret: InstanceLookup | None, expected: str | None) -> bool:
    """Return whether Clerk accepts the secret key and does not name another instance than the expected one."""
    if secret is None or secret.status != 200:
        return False
    return not expected or not secret.instances or expected in secret.instances
