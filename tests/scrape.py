"""Reads GET /metrics as Prometheus does."""

import re
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

import sync_service
from tests.world import World

# A series: its name, with its labels as in Prometheus' own notation.
Series = dict[str, float]


async def scrape(world: World) -> Series:
    """Return the value of each series."""
    return read_series((await world.client.get("/metrics")).text)


def read_families(text: str) -> list[Metric]:
    """Return the families of an exposition."""
    return list(text_string_to_metric_families(text))


def read_documented_families() -> dict[str, tuple[str, str]]:
    """Return the type and the label of each family in the documentation."""
    text = (Path(sync_service.__file__).parent / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| `(sync_service_\w+)` \| (\w+) \| (?:`(\w+)`)? ?\|", text, re.MULTILINE)
    return {name.removesuffix("_total"): (kind, label) for name, kind, label in rows}


def read_series(text: str) -> Series:
    """Return the value of each series of an exposition."""
    found = {}
    for family in read_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return found
