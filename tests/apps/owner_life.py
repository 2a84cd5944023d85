"""A user's whole life in one application, by signed webhooks, with the checks of the application's owner."""

from itertools import permutations
from typing import Any

from tests.apps.clerk_users import NO_NAMES, build_address, build_event, build_phone
from tests.apps.owned_app import fill, is_fresh
from tests.apps.owner_checks import OwnerChecks, Row
from tests.world import T1, T2, T3, encode_body, make_email_fields, sign_event

CREATED, UPDATED, DELETED = "user.created", "user.updated", "user.deleted"


class OwnerLife(OwnerChecks):
    """The steps in the order of the procedure. Each user has an ID of its own."""

    def name_user(self, suffix: str) -> str:
        return f"user_2{self.app.name}New{suffix}"

    async def run(self) -> None:
        """Run all steps."""
        before = await self.fetch_all()
        await self.run_linked_users(before)
        await self.run_orders()
        await self.run_main_user()
        await self.run_users_without_email()
        await self.run_long_name()
        touched = await self.run_existing_users()
        touched |= await self.run_pre_clerk_user(before)
        touched |= {str(key) for key in self.app.expect.get("linked", {}).values()}
        after = await self.fetch_all()
        for key in before.keys() - touched:
            self.require(after.get(key) == before[key], "a row without events changed", key)
        await self.replay_all()

    async def run_main_user(self) -> None:
        user, other = self.name_user("Main"), self.name_user("Other")
        body = build_event(CREATED, user, T1, **make_email_fields("main.a"))
        await self.deliver("created", body, "applied")
        created = await self.fetch_row(user)
        if not self.require(created, "created: no row"):
            return
        assert created
        key = created[self.app.key_column]
        self.check_new("created", created, body["data"])
        await self.check_queries("after_insert", user, key)
        await self.world.db.execute(fill(self.app.expect["app_writes"], user, key))
        written = await self.fetch_row(user) or created

        body = build_event(UPDATED, user, T2, first_name="Grace", **make_email_fields("main.a"))
        message_id = await self.deliver("updated", body, "applied")
        updated = await self._check_update("updated", user, body, written)
        self.check_moves("updated", updated, written)
        await self.check_queries("after_updates", user, key)
        await self._check_no_change("duplicate", user, body, "duplicate", message_id)
        older = build_event(UPDATED, user, T1 + 500, first_name="Older", **make_email_fields("main.older"))
        await self._check_no_change("stale", user, older, "stale")

        body = build_event(UPDATED, user, T2 + 10, first_name="Grace", **make_email_fields("main.b"))
        await self.deliver("e-mail change", body, "applied")
        await self._check_update("e-mail change", user, body, written)
        await self._sign_up("freed address", other, T2 + 20, **make_email_fields("main.a"))

        body = build_event(UPDATED, user, T2 + 30, **NO_NAMES, **make_email_fields("main.b"))
        await self.deliver("names null", body, "applied")
        await self._check_update("names null", user, body, written)
        await self._end_main_user(user, key)

    async def _end_main_user(self, user: str, key: Any) -> None:
        result = await self.delete_user("deleted", user, T3, build_event(DELETED, user, T3))
        await self.check_queries("after_delete", user, key)
        late = build_event(UPDATED, user, T3 + 10, first_name="Late", **make_email_fields("main.late"))
        await self._check_no_change("late update", user, late, "stale")
        if result != "parked":
            await self._sign_up("address of a deleted user", self.name_user("Heir"), T3, **make_email_fields("main.b"))

    async def _sign_up(self, step: str, user: str, at: int, **data: Any) -> Row | None:
        """Create a user and check the new row."""
        body = build_event(CREATED, user, at, **data)
        await self.deliver(step, body, "applied")
        row = await self.fetch_row(user)
        if self.require(row, f"{step}: no row") and row:
            self.check_new(step, row, body["data"])
        return row

    async def _check_update(self, step: str, user: str, body: dict[str, Any], before: Row) -> Row:
        row = await self.fetch_row(user)
        if not self.require(row, f"{step}: no row"):
            return before
        assert row
        self.check_shows(step, row, body["data"])
        self.check_never_null(step, row)
        self.check_same(step, row, before, self.app.names("own"))
        return row

    async def _check_no_change(
        self, step: str, user: str, body: dict[str, Any], outcome: str, message_id: str | None = None
    ) -> None:
        before = await self.fetch_all()
        await self.deliver(step, body, outcome, message_id=message_id)
        self.require(await self.fetch_all() == before, f"{step}: a row changed", user)

    async def run_users_without_email(self) -> None:
        rows = [
            await self._sign_up(f"phone only {n}", self.name_user(f"Phone{n}"), T1, **build_phone(n)) for n in (1, 2)
        ]
        for number, row in enumerate(rows, 1):
            user = self.name_user(f"Phone{number}")
            body = build_event(UPDATED, user, T2, **build_phone(number))
            await self.deliver("phone only, updated", body, "applied")
            if row:
                await self._check_update("phone only, updated", user, body, row)

    async def run_long_name(self) -> None:
        """A name of 120 letters is cut, or stored in full."""
        names = {"first_name": "x" * 120, "last_name": "y" * 10}
        user = self.name_user("Long")
        await self.deliver("long name", build_event(CREATED, user, T1, **names, **make_email_fields("long")), "applied")
        row = await self.fetch_row(user)
        for column, limit in self.app.expect.get("long", {}).items():
            self.require(row and row[column] == "x" * limit, f"long {column}")

    async def run_orders(self) -> None:
        """Created, updated and deleted arrive in all orders, and the first events at once."""
        lives = []
        for number, order in enumerate(permutations((CREATED, UPDATED, DELETED))):
            user = self.name_user(f"Order{number}")
            times = {CREATED: T1, UPDATED: T2, DELETED: T3}
            fields = make_email_fields(f"order{number}")
            lives.append((user, [build_event(kind, user, times[kind], **fields) for kind in order]))
        await self.deliver_at_once("orders", [events[0] for _, events in lives])
        for user, events in lives:
            newest = max(event["timestamp"] for event in events[:2])
            outcome = "applied" if newest == events[1]["timestamp"] else "stale"
            await self.deliver("orders", events[1], outcome)
            row = await self.fetch_row(user)
            if newest != T3:
                (data,) = [event["data"] for event in events[:2] if event["timestamp"] == newest]
                if self.require(row, "orders: no row") and row:
                    self.check_new("orders", row, data)
                await self.delete_user("orders", user, T3, events[2])
                continue
            await self.deliver("orders", events[2], "stale")
            await self._check_deleted_early(row)

    async def _check_deleted_early(self, row: Row | None) -> None:
        marks = self.app.expect.get("marks", {})
        is_marked = row and marks and all(is_fresh(row[column], wanted) for column, wanted in marks.items())
        is_allowed = row is None or (is_marked and "marked" in self.app.deletions(cured=self.cured))
        self.require(is_allowed, "orders: a deleted user has a row")

    async def run_existing_users(self) -> set[str]:
        """Update the users of rows.sql, first with names or without, and delete them. Return their keys."""
        keys = set()
        for number, user in enumerate(self.app.names("existing")):
            before = await self.fetch_row(user)
            if not self.require(before, "existing: no row", user) or not before:
                continue
            key = before[self.app.key_column]
            keys.add(str(key))
            names = NO_NAMES if number % 2 == 0 else {"first_name": "New"}
            body = build_event(UPDATED, user, T2, **names, **make_email_fields(f"existing{number}"))
            await self.deliver("existing", body, "applied")
            row = await self._check_update("existing", user, body, before)
            self.check_moves("existing", row, before)
            if number % 2 == 0:
                self.check_same("existing: keep", row, before, self.app.names("keep"))
            else:
                body = build_event(UPDATED, user, T2 + 10, **NO_NAMES, **make_email_fields(f"existing{number}"))
                await self.deliver("existing", body, "applied")
                await self._check_update("existing", user, body, before)
            await self.delete_user("existing, deleted", user, T3, build_event(DELETED, user, T3))
        return keys

    async def run_linked_users(self, before: dict[str, Row]) -> None:
        """An account that another table links gets no second row."""
        for user, key in self.app.expect.get("linked", {}).items():
            number = len(await self.fetch_all())
            body = build_event(UPDATED, user, T2, **make_email_fields(f"linked{key}"))
            await self.deliver("linked", body, "applied")
            row = await self._check_update("linked", user, body, before[str(key)])
            self.require(row[self.app.key_column] == key, "linked: key", row[self.app.key_column])
            self.require(len(await self.fetch_all()) == number, "linked: a second row", user)

    async def run_pre_clerk_user(self, before: dict[str, Row]) -> set[str]:
        """A user signs up with the address of a row that has no Clerk ID. Return the keys that may change."""
        if not (expected := self.app.expect.get("pre_clerk")):
            return set()
        key, user = str(expected["key"]), self.name_user("PreClerk")
        children = await self.count_children(user, expected["key"])
        body = build_event(CREATED, user, T2, first_name="Pre", **build_address(expected["email"]))
        adopts = self.world.mapping.link_by_verified_email
        await self.deliver("pre-Clerk", body, "applied", *(() if adopts else ("parked unique_violation",)))
        after = await self.fetch_by_key(key)
        if not self.require(after, "pre-Clerk: the row is gone") or not after:
            return {key}
        self.require(await self.count_children(user, expected["key"]) == children, "pre-Clerk: children")
        if not adopts:
            self.require(after == before[key], "pre-Clerk: the row changed")
            return set()
        row = await self.fetch_row(user)
        self.require(row == after, "pre-Clerk: not adopted")
        await self._check_update("pre-Clerk", user, body, before[key])
        body = build_event(UPDATED, user, T2 + 10, **NO_NAMES, **build_address(expected["email"]))
        await self.deliver("pre-Clerk, updated", body, "applied")
        await self._check_update("pre-Clerk, updated", user, body, before[key])
        return {key}

    async def replay_all(self) -> None:
        """Svix may deliver each event again at any time; no row changes."""
        before = await self.fetch_all()
        for message_id, body in list(self.world.accepted):
            response = await self.world.post(encode_body(body), sign_event(encode_body(body), message_id))
            self.require(response.is_success, "replay", response.status_code)
        self.require(await self.fetch_all() == before, "replay: a row changed")

    async def offer_events(self) -> None:
        """Deliver events that the table may not be able to take yet; no value of the application changes."""
        before = await self.fetch_all()
        for number, user in enumerate((*self.app.names("existing"), self.name_user("Main"))):
            body = build_event(UPDATED, user, T2, **NO_NAMES, **make_email_fields(f"offer{number}"))
            response = await self.world.deliver(body)
            self.require(response.is_success or response.status_code == 503, "unusable", response.status_code)
        after = await self.fetch_all()
        for key, row in before.items():
            if self.require(key in after, "unusable: a row is gone", key):
                self.check_same("unusable", after[key], row, self.app.names("own") + self.app.names("keep"))
