"""Tests that need a program of this machine are skipped without it, or fail where it is required."""

import pytest

from tests.tools import require_tool


@pytest.mark.parametrize(
    ("required", "result"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)], ids=["skipped", "failed"]
)
def test_a_missing_program_skips_its_test_or_fails_it(
    monkeypatch: pytest.MonkeyPatch, required: str, result: type[BaseException]
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("REQUIRE_TOOLS", required)
    with pytest.raises(result, match="promtool is not installed"):
        require_tool("promtool")
