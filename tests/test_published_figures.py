"""The figures in README and the documentation are those that `make bench` has written, in the form that it prints."""

from pathlib import Path

import pytest

from tests.benchmarks import publish
from tests.benchmarks.tables import TABLES


@pytest.mark.parametrize("page", publish.PAGES, ids=lambda page: page.name)
def test_a_page_has_the_tables_of_the_committed_results(page: Path) -> None:
    text = page.read_text()
    assert "<!-- make bench: " in text
    assert text == publish.fill_page(text), "`python -m tests.benchmarks publish` writes the tables"


def test_the_plot_shows_the_committed_results() -> None:
    assert publish.PLOT.read_text() == publish.draw_growth()


def test_every_committed_result_has_a_table() -> None:
    names = {file.stem for file in publish.RESULTS.glob("*.json")}
    assert names == set(TABLES)


def test_the_comparison_has_the_rates_of_64_clients() -> None:
    rows = [row for row in publish.read_result("load")["rows"] if row["clients"] == 64]
    usual, service = rows[1]["rate"], rows[-1]["rate"]
    line = f"| 64 clients at the same time | {usual:,.0f} webhooks/s | {service:,.0f} webhooks/s | `make bench` |"
    assert line in publish.PAGES[0].read_text().splitlines()
