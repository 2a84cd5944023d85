"""The codes of findings, with their meanings, as the page doctor.md lists them (pure)."""

import re
from collections.abc import Mapping

from msgspec import Struct


class Rule(Struct, frozen=True):
    """The meaning of a code, and the anchor of its section in doctor.md."""

    meaning: str
    anchor: str


def read_rules(page: str) -> Mapping[str, Rule]:
    """Return the rule of each code in the tables below `## Codes`."""
    rules: dict[str, Rule] = {}
    for section in page.partition("\n## Codes\n")[2].split("\n### ")[1:]:
        heading = section.partition("\n")[0]
        anchor = heading.lower().replace(" ", "-")
        for cell, meaning in re.findall(r"^\| (`.+?) \| (.+) \|$", section, re.MULTILINE):
            rules |= {code: Rule(meaning, anchor) for code in re.findall(r"`(\w+)`", cell)}
    return rules
