"""The syntax of `sync.toml`: entries, values in one line, comments (pure)."""

import json
import re
from collections.abc import Mapping
from typing import Any


def render_entry(name: str, value: Any) -> str:
    """Return a line of `sync.toml`."""
    return f"{_quote_key(name)} = {_render_value(value)}"


def _render_value(value: Any) -> str:
    """Return a value of TOML, with tables in one line."""
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_quote_key(key)} = {_render_value(part)}" for key, part in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_render_value, value))}]"
    return _quote_string(value) if isinstance(value, str) else json.dumps(value)


def append_comment(line: str, reason: str) -> str:
    """Return the line with its reason as a comment."""
    return f"{line}  {render_comment(reason)}" if reason else line


def render_comment(text: str) -> str:
    """Return a comment. A name may contain a line break, which would end it."""
    return "# " + re.sub(r"[\x00-\x1f\x7f]", " ", text)


def quote_table_part(name: str) -> str:
    """Quote a schema or table name for the key `table`, if it needs quotes."""
    return '"' + name.replace('"', '""') + '"' if re.search(r'[."]', name) else name


def _quote_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quote_string(name)


def _quote_string(text: str) -> str:
    """Return a basic string of TOML. It has JSON's syntax, except that TOML requires an escape for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
