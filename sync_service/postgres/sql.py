"""SQL files, their gaps, and quoting.

Each file is a valid statement as it stands. A gap is a part that depends on the mapping; it stands between two comments
and holds a default: `/*<table>*/public.users/*</table>*/`.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

_GAP = re.compile(r"/\*<(\w+)>\*/(.*?)/\*</\1>\*/", re.DOTALL)


@cache
def read_sql(package: str, name: str) -> str:
    """Return the text of a file in the folder `sql` of a package."""
    return files(package).joinpath("sql", name).read_text(encoding="utf-8")


def fill_gaps(sql: str, gaps: Mapping[str, str]) -> str:
    """Return the statement with the text of each gap replaced. Raises `KeyError` for a gap without a text."""
    return _GAP.sub(lambda match: gaps[match[1]], sql)


def read_gaps(sql: str) -> dict[str, str]:
    """Return the default of each gap, by its name."""
    return {match[1]: match[2] for match in _GAP.finditer(sql)}


def quote_ident(name: str) -> str:
    """Quote an identifier. Names from the mapping enter SQL only through this function."""
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """Quote a text. Texts from the mapping enter SQL only through this function."""
    return "'" + text.replace("'", "''") + "'"


def quote_table(schema: str, table: str) -> str:
    """Quote the name of a table with its schema."""
    return f"{quote_ident(schema)}.{quote_ident(table)}"
