"""The service with a stub of Clerk's API behind it."""

from collections.abc import AsyncIterator

import pytest

from tests.clerk_stub import ClerkStub
from tests.conftest import Serve
from tests.sync_requests import build_settings
from tests.world import World


@pytest.fixture
async def world(serve: Serve, clerk: ClerkStub) -> AsyncIterator[World]:
    """The running service, which may call the stub; the invariants are checked after the test."""
    async with serve(**build_settings(clerk)) as running:
        yield running
        await running.check_invariants()
