"""Rows and keys of the app's table in responses: JSON text of PostgreSQL, which is passed on."""

from typing import Annotated, TypeAlias

from msgspec import Meta, Raw

from sync_service.big_integers import quote_big_integers

Row: TypeAlias = Annotated[Raw, Meta(extra_json_schema={"type": "object"})]

# The key has its own type in JSON. An integer beyond 2^53 - 1 is a string.
Key: TypeAlias = Annotated[Raw, Meta(extra_json_schema={"type": ["string", "integer", "number", "object", "array"]})]


def encode_row(text: str) -> Raw:
    """Return a row or a key as it is put into a response."""
    return Raw(quote_big_integers(text).encode())
