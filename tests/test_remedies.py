"""The remedies of failed events, compared with the reasons of the code and with docs/operations.md."""

import re
from pathlib import Path

import asyncpg
import pytest

from sync_service.clerk.entities import ENTITIES
from sync_service.clerk.objects import name_unreadable
from sync_service.postgres.errors import _name_condition
from sync_service.store.remedies import OTHER, REMEDIES, Remedy, find_remedy
from sync_service.store.rows import ROW_NOT_WRITTEN
from sync_service.sync.commit import DELETE_GRACE, LONG_DELETION
from sync_service.sync.email_conflict import EMAIL_CONFLICT

PAGE = (Path(__file__).resolve().parents[1] / "sync_service" / "docs" / "operations.md").read_text()
OWN_REASONS = {DELETE_GRACE, EMAIL_CONFLICT, LONG_DELETION, ROW_NOT_WRITTEN, "value_replaced"}
OWN_REASONS |= {name_unreadable(entity) for entity in ENTITIES.values()}
OWN_REASONS |= {f"waiting_for_{parent.entity}" for entity in ENTITIES.values() for parent in entity.parents}


def list_postgres_reasons() -> set[str]:
    """Return the reason of each error class of asyncpg, and those of errors that have no such class."""
    classes = [each for each in vars(asyncpg.exceptions).values() if isinstance(each, type)]
    errors = [each("") for each in classes if issubclass(each, asyncpg.PostgresError)]
    return {_name_condition(error) for error in errors} | {_name_condition(TimeoutError()), "data_exception"}


def test_every_reason_of_the_table_can_occur_and_has_one_remedy() -> None:
    reasons = [reason for remedy in REMEDIES for reason in remedy.reasons]
    assert len(reasons) == len(set(reasons))
    assert set(reasons) >= OWN_REASONS
    assert set(reasons) <= OWN_REASONS | list_postgres_reasons()
    assert find_remedy("unique_violation").title == "Unique violation"
    assert find_remedy("division_by_zero") is OTHER


@pytest.mark.parametrize("remedy", REMEDIES, ids=lambda remedy: remedy.anchor)
def test_the_page_has_a_section_for_each_remedy(remedy: Remedy) -> None:
    section = re.search(rf"^##+ {remedy.title}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section
    text = " ".join(section[1].split())
    for part in (*(f"`{reason}`" for reason in remedy.reasons), remedy.meaning, remedy.fix):
        assert part in text


def test_a_remedy_is_one_sentence() -> None:
    for remedy in REMEDIES:
        assert remedy.fix.endswith(".")
        assert re.search(r"\. [A-Z]", remedy.fix) is None
