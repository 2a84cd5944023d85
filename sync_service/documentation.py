"""The documentation pages of this release: Markdown files of the package."""

import functools
import itertools
from importlib.resources import files
from pathlib import Path

_FOLDER = files("sync_service").joinpath("docs")


def list_pages() -> list[str]:
    """Return the names of the pages, in alphabetical order."""
    return sorted(file.name.removesuffix(".md") for file in _FOLDER.iterdir() if file.name.endswith(".md"))


def read_page(name: str) -> str:
    """Return the Markdown text of a page."""
    return _FOLDER.joinpath(f"{name}.md").read_text(encoding="utf-8")


def get_page_uri(name: str) -> str:
    """Return the URI of the installed page."""
    return Path(str(_FOLDER.joinpath(f"{name}.md"))).as_uri()


def summarize(page: str) -> str:
    """Return the first paragraph of a page, without its title, as one line."""
    _, summary, *_ = page.split("\n\n", 2)
    return " ".join(summary.split())


@functools.cache
def render_page(name: str) -> str:
    """Return a page as HTML, with the anchors that links name."""
    # Only the operators' page needs this import.
    from markdown_it import MarkdownIt  # noqa: PLC0415

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(read_page(name))
    for heading, title in itertools.pairwise(tokens):
        if heading.type == "heading_open":
            kept = [character for character in title.content.lower() if character.isalnum() or character in "-_ "]
            heading.attrSet("id", "".join(kept).replace(" ", "-"))
    return str(markdown.renderer.render(tokens, markdown.options, {}))
