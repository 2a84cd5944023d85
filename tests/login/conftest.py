"""The service with a stub of Clerk's API behind it."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.clerk_stub import ClerkStub
from tests.conftest import Serve
from tests.sync_requests import build_settings
from tests.world import PATIENT_LIMITS, World


@pytest.fixture
async def world(serve: Serve, clerk: ClerkStub) -> AsyncIterator[World]:
    """The running service, which may call the stub; the invariants are checked after the test.

    It waits for Clerk longer than in production, so that a busy machine does not change the outcome of a login.
    """
    async with serve(**build_settings(clerk), limits=replace(PATIENT_LIMITS, stale_wait=4)) as running:
        yield running
        await running.check_invariants()
