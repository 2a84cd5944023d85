"""`openapi`: prints the description of the HTTP interface."""

import argparse
from collections.abc import Mapping

from sync_service.cli.arguments import Commands, add_json_option


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("openapi", help="print the description of the HTTP interface (OpenAPI 3.1)")
    add_json_option(parser)  # the document is JSON in any case
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print the document as JSON."""
    # The import takes a third of a second. Other commands should not pay for it.
    from sync_service.web.routes import encode_description  # noqa: PLC0415

    print(encode_description().decode())
    return 0
