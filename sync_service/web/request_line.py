"""The first line of a request: an unknown method, the path of a target (pure)."""

import re

import httptools

# The parser knows the registered methods. RFC 9110 allows others, so the response must not deny that this is HTTP.
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_REQUEST_LINE = re.compile(rb"(?<!" + _TOKEN + rb")(" + _TOKEN + rb"{1,64}) [^ \r\n]+ HTTP/1\.[01]\r?\n")  # linear time


def has_unknown_method(part: bytes) -> bool:
    """Return whether the last request line of the part has a method that the parser does not know."""
    lines = _REQUEST_LINE.findall(part)
    try:
        httptools.HttpRequestParser(object()).feed_data(lines[-1] + b" " if lines else b"GET ")
    except httptools.HttpParserInvalidMethodError:
        return True
    return False


def find_path(url: bytes) -> bytes:
    """Return the path and query of a target in absolute form, or of `*`."""
    if url == b"*":
        return b"/*"
    parts = httptools.parse_url(url)
    return (parts.path or b"/") + (b"?" + parts.query if parts.query else b"")
