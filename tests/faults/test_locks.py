"""A row that somebody else holds: its user waits, for a time, and nobody else does."""

import asyncio
import json
import time

from tests.faults.conftest import Besiege
from tests.faults.sender import PROMISE
from tests.faults.siege import Siege
from tests.faults.truth import Message
from tests.world import T1, T2, count_lock_waiters, make_email_fields, make_event, wait_until

LOCKED = "user_locked"


def about_locked(event_type: str, moment: int) -> Message:
    body = make_event(event_type, LOCKED, moment, first_name=f"at {moment}", **make_email_fields(f"locked.{moment}"))
    return Message(f"msg_locked_{moment}", json.dumps(body).encode())


async def test_a_locked_user_is_answered_in_time_and_holds_up_nobody_else(besiege: Besiege) -> None:
    """DB6: the row is held until its user was answered 503; as soon as it is free, the next answer is 2xx."""
    async with besiege("row lock held") as siege:
        created, updated = about_locked("user.created", T1), about_locked("user.updated", T2)
        siege.issued += [created, updated]
        assert (await siege.sender.deliver(created)).acknowledged
        async with siege.engine.connected(siege.database) as holder, siege.engine.connected(siege.database) as watcher:
            await holder.execute("begin")
            await holder.fetch("select from public.users where id = $1 for update", LOCKED)
            siege.injected()
            began, before = time.monotonic(), len(siege.sender.answers)
            locked = asyncio.create_task(siege.sender.deliver(updated))
            await wait_until(lambda: count_lock_waiters(watcher))  # it is that row which it waits for
            await wait_until(lambda: _refused(siege, before), PROMISE - (time.monotonic() - began))
            assert not locked.done()
            others = sorted(answer.seconds for answer in siege.sender.answers[before:] if answer.status == 200)
            assert len(others) > 50, "other users did not go on"
            assert others[len(others) * 9 // 10] < 2, f"other users waited: {others[-20:]}"
            await holder.execute("rollback")
        await asyncio.wait_for(locked, PROMISE)
        assert locked.result().acknowledged


def _refused(siege: Siege, before: int) -> bool:
    return any(answer.status == 503 for answer in siege.sender.answers[before:])
