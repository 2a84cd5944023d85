"""`docs`: lists the documentation pages of this release, or prints one."""

import argparse
import json
from collections.abc import Mapping
from difflib import get_close_matches

from rich.console import Console

from sync_service.cli.arguments import Commands, add_json_option
from sync_service.documentation import list_pages, read_page, summarize

# Longer lines are hard to read, however wide the terminal is.
MAX_WIDTH = 110


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("docs", help="list the documentation pages, or print one")
    parser.add_argument(
        "page", metavar="PAGE", nargs="?", type=_parse_page_name, help="the page to print, such as mapping"
    )
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print the page, or the list of pages."""
    if arguments.json and arguments.page:
        print(json.dumps({"page": arguments.page, "text": read_page(arguments.page)}, ensure_ascii=False))
    elif arguments.json:
        print(json.dumps({name: summarize(read_page(name)) for name in list_pages()}, ensure_ascii=False))
    elif arguments.page is None:
        print(_format_page_list())
    else:
        _print_page(read_page(arguments.page))
    return 0


def _parse_page_name(text: str) -> str:
    """Return the name of an existing page. Raises `ArgumentTypeError`, so that argparse exits with status 2."""
    name = text.lower().removesuffix(".md")
    names = list_pages()
    if name in names:
        return name
    close = get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise argparse.ArgumentTypeError(f"there is no page {text!r}.{hint} The pages are {', '.join(names)}.")


def _format_page_list() -> str:
    names = list_pages()
    width = max(map(len, names))
    lines = [f"  {name:{width}}  {summarize(read_page(name))}" for name in names]
    return "\n".join(["Pages, for `sync-service docs PAGE`:", "", *lines])


def _print_page(text: str) -> None:
    """Print the Markdown as it is into a pipe or a file, and rendered on a terminal."""
    console = Console()
    if not console.is_terminal:
        print(text, end="")
        return
    # The import takes a third of a second. Other commands should not pay for it.
    from rich.markdown import Markdown  # noqa: PLC0415

    console.print(Markdown(text, hyperlinks=False), width=min(console.width, MAX_WIDTH))
