"""Names of tables and columns as `sync.toml` writes them (pure)."""

import re

_NAME = r'(?:"((?:[^"]|"")+)"|([^".]+))'
_TABLE = re.compile(rf"(?:{_NAME}\.)?{_NAME}")


def parse_table_name(text: str) -> tuple[str, str]:
    """Return schema and table. Case is significant; only a name with a dot needs quotes. Raises `ValueError`."""
    match = _TABLE.fullmatch(text)
    if not match:
        raise ValueError('is not a table; write public.users, or "my schema"."my.table"')
    schema, table = match[1] or match[2], match[3] or match[4]
    return (schema or "public").replace('""', '"'), table.replace('""', '"')


def strip_quotes(name: str) -> str:
    """Return a column's name without the quotes that SQL needs around it."""
    is_quoted = len(name) > 2 and name[0] == name[-1] == '"'
    return name[1:-1].replace('""', '"') if is_quoted else name
