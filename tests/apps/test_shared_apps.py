"""The procedure of the shared applications; tests/apps/runner.py prints all failures."""

import os

import pytest

from sync_service.dev.embedded import EmbeddedServer
from tests.apps.owned_app import OwnedApp, load_apps
from tests.apps.runner import PHASES, format_failures, run_app

APPS = load_apps()


def test_the_shared_applications_are_here() -> None:
    if not APPS and not os.environ.get("REQUIRE_SHARED"):
        pytest.skip("the shared applications are not beside the project")
    assert len(APPS) >= 12


@pytest.mark.parametrize("phase", PHASES[:2])
@pytest.mark.parametrize("app", APPS, ids=lambda app: app.name)
def test_an_application_works_with_the_unedited_suggestion(engine: EmbeddedServer, app: OwnedApp, phase: str) -> None:
    """The phases: before any SQL of the doctor, and after all of it."""
    run = run_app(engine, app, phase)
    assert not run.failures, format_failures(run)
