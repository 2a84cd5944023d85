"""Text from events and rows without control sequences, which would act on the operator's terminal (pure)."""

import re

# C0 and C1 controls without tab and line feed, marks that reverse the direction of text, line separators, surrogates.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def escape_controls(text: str) -> str:
    r"""Return the text with each control character as `\u001b`, which is valid in JSON too."""
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def escape_value(text: str) -> str:
    """Return the text on one line: a value must not look like a line of its own."""
    return escape_controls(text).replace("\n", "\\n")


def print_text(text: str) -> None:
    """Print the text without control sequences."""
    print(escape_controls(text))
