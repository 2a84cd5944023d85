"""Put committed results into README and the documentation: `python -m tests.benchmarks publish`.

`BENCH_OUTPUT=tests/benchmarks/results make bench` writes the results. A page shows them between two comments, of which
the first one names the benchmarks. A test holds the pages to the committed results.
"""

import json
import re
from pathlib import Path
from typing import Any

from tests.benchmarks.plot import draw_plot
from tests.benchmarks.tables import Result, render_tables

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).with_name("results")
DOCS = ROOT / "sync_service" / "docs"
PAGES = (ROOT / "README.md", DOCS / "scaling.md")
PLOT = DOCS / "growth.svg"

_BLOCK = re.compile(r"(<!-- make bench: ([a-z, ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def publish() -> None:
    """Write the tables into the pages, and the plot beside them."""
    for page in PAGES:
        page.write_text(fill_page(page.read_text()))
    PLOT.write_text(draw_growth())


def fill_page(text: str) -> str:
    """Return a page with the tables of the committed results."""
    return _BLOCK.sub(lambda found: f"{found[1]}{render_tables(_read_results(found[2]))}\n{found[3]}", text)


def draw_growth() -> str:
    """Return the SVG of the rate by the number of users."""
    rows: list[dict[str, Any]] = read_result("growth")["rows"]
    names = list(dict.fromkeys(row["target"] for row in rows))
    lines = {name: [(row["users"], row["rate"]) for row in rows if row["target"] == name] for name in names}
    return draw_plot("Updates per second by users in the table, 64 clients", lines)


def _read_results(names: str) -> dict[str, Result]:
    return {name: read_result(name) for name in names.split(", ")}


def read_result(name: str) -> Any:
    """Return the committed results of a benchmark."""
    return json.loads((RESULTS / f"{name}.json").read_text())
