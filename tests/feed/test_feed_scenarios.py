"""Each scenario of scenarios.md names its test."""

import re
from pathlib import Path

FOLDER = Path(__file__).parent


def test_each_scenario_names_a_test_and_each_test_of_the_folder_has_a_scenario() -> None:
    lines = (FOLDER / "scenarios.md").read_text().splitlines()
    named = [line.removesuffix(" |").rpartition(" | ")[2].split("::") for line in lines if "::" in line]
    assert len(named) > 30
    for module, test in named:
        assert test in list_tests((FOLDER / f"{module}.py").resolve()), test
    own = {test for file in FOLDER.glob("test_*.py") if file != Path(__file__) for test in list_tests(file)}
    assert own - {test for _, test in named} == set()


def list_tests(file: Path) -> list[str]:
    """Return the names of the tests in a file."""
    return re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
