"""A locked row delays the events of its own user only, and within a limit."""

import asyncio
import json
import time

from tests.faults.conftest import RunUnderFault
from tests.faults.expected_table import Message
from tests.faults.fault_run import FaultRun
from tests.faults.sender import RESPONSE_TIMEOUT
from tests.world import T1, T2, count_lock_waiters, make_email_fields, make_event, wait_until

LOCKED = "user_locked"


def make_locked_message(event_type: str, moment: int) -> Message:
    body = make_event(event_type, LOCKED, moment, first_name=f"at {moment}", **make_email_fields(f"locked.{moment}"))
    return Message(f"msg_locked_{moment}", json.dumps(body).encode())


async def test_a_locked_row_delays_its_own_user_only(run_under_fault: RunUnderFault) -> None:
    """The user's webhook gets 503 during the lock and 2xx after it; other users are served (DB6)."""
    async with run_under_fault("row lock held") as run:
        created, updated = make_locked_message("user.created", T1), make_locked_message("user.updated", T2)
        run.issued += [created, updated]
        assert (await run.sender.deliver(created)).acknowledged
        async with run.engine.connect(run.database) as holder, run.engine.connect(run.database) as watcher:
            await holder.execute("begin")
            await holder.fetch("select from public.users where id = $1 for update", LOCKED)
            run.count_injected()
            began, before = time.monotonic(), len(run.sender.results)
            locked = asyncio.create_task(run.sender.deliver(updated))
            await wait_until(lambda: count_lock_waiters(watcher))  # the transaction waits for the locked row
            await wait_until(lambda: _is_refused(run, before), RESPONSE_TIMEOUT - (time.monotonic() - began))
            assert not locked.done()
            others = sorted(result.seconds for result in run.sender.results[before:] if result.status == 200)
            assert len(others) > 50, "other users did not go on"
            assert others[len(others) * 9 // 10] < 2, f"other users waited: {others[-20:]}"
            await holder.execute("rollback")
        await asyncio.wait_for(locked, RESPONSE_TIMEOUT)
        assert locked.result().acknowledged


def _is_refused(run: FaultRun, before: int) -> bool:
    return any(result.status == 503 for result in run.sender.results[before:])
