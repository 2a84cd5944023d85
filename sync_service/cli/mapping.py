"""`mapping suggest`: read the users table and write a `sync.toml` for it. The commands write no row."""

import argparse
import asyncio
import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from sync_service.cli.arguments import Commands, add_json_option, parse_text
from sync_service.cli.database import open_connection
from sync_service.cli.mapping_tables import list_tables
from sync_service.cli.output_file import check_new_file, remove_empty_output, write_new_file
from sync_service.dev.state import load_settings
from sync_service.errors import SettingsError, SyncError
from sync_service.mapping.toml import parse_mapping
from sync_service.settings import MAPPING_FILE, Settings
from sync_service.suggest.evidence import Evidence
from sync_service.suggest.overview import Overview
from sync_service.suggest.overview_reader import read_overview
from sync_service.suggest.related import RelatedTable, read_related
from sync_service.suggest.rendering import list_unsolved, render_suggestion
from sync_service.suggest.rows import read_evidence
from sync_service.suggest.tables import MIN_SCORE_OF_NAME, Candidate, list_candidates
from sync_service.terminal import escape_controls


def add_parser(commands: Commands) -> None:
    """Add the commands."""
    mapping = commands.add_parser("mapping", help="suggest a table mapping, list its tables").add_subparsers(
        metavar="COMMAND", required=True
    )
    parser = mapping.add_parser("suggest", help="print a sync.toml for the existing table")
    parser.add_argument(
        "--table", metavar="TABLE", type=parse_text, help="the table, such as public.users; default: the likeliest one"
    )
    parser.add_argument(
        "--output", metavar="FILE", type=Path, help="write this file instead of standard output; it must not exist yet"
    )
    parser.set_defaults(run=run)
    tables_parser = mapping.add_parser("tables", help="list the users table and the tables that refer to it")
    tables_parser.set_defaults(run=list_tables)
    add_json_option(parser, tables_parser)


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print the suggested mapping, or write it to a file."""
    with remove_empty_output([MAPPING_FILE, environ.get("SYNC_CONFIG", MAPPING_FILE)]):
        name = _parse_table(arguments.table) if arguments.table else None
        if arguments.output:
            check_new_file("--output", arguments.output)
        # An existing mapping, valid or not, must not influence the suggestion.
        settings = load_settings(environ, "DATABASE_URL", with_mapping=False)
        facts, candidates, related = asyncio.run(_read_facts(settings, name))
        suggestion = render_suggestion(facts, candidates, related)
    text = f"{json.dumps(tomllib.loads(suggestion), indent=2)}\n" if arguments.json else suggestion
    if arguments.output:
        write_new_file(arguments.output, text)
    else:
        print(text, end="")
    print(escape_controls(_summarize(facts, candidates)), file=sys.stderr)
    return 0


def _parse_table(table: str) -> tuple[str, str]:
    try:
        mapping = parse_mapping(f"[users]\ntable = '''{table}'''\n")
    except SettingsError:
        raise SettingsError(['--table: write public.users, or "my schema"."my.table"']) from None
    return mapping.schema, mapping.table


async def _read_facts(
    settings: Settings, given_name: tuple[str, str] | None
) -> tuple[Evidence, Sequence[Candidate], Sequence[RelatedTable]]:
    """Return the facts about the table, the tables among which it was chosen, and those of the other entities."""
    async with open_connection(settings) as connection:
        overview = await read_overview(connection)
        candidates = [] if given_name else _list_candidates(overview)
        name = given_name or (candidates[0].table.id if candidates else None)
        facts = await read_evidence(connection, overview, *name) if name else None
        related = await read_related(connection, overview, name) if name else []
    if facts is None:
        raise SyncError(_explain_failure(overview, given_name))
    if facts.table.kind not in {"r", "p"}:
        raise SyncError(
            f"{facts.table.schema}.{facts.table.name} is a view or a foreign table. Name the table behind it."
        )
    return facts, candidates, related


def _list_candidates(overview: Overview) -> Sequence[Candidate]:
    return list_candidates(overview) or list_candidates(overview, MIN_SCORE_OF_NAME)


def _explain_failure(overview: Overview, given_name: tuple[str, str] | None) -> str:
    if given_name:
        similar = _find_similar(overview, *given_name)
        return f"The table {'.'.join(given_name)} does not exist.{f' Did you mean {similar}?' if similar else ''}"
    if not overview.tables:
        return (
            "The database has no table yet. Create the tables of your app first; without any users table,"
            " `sync-service migrate` creates public.users, and no sync.toml is needed."
        )
    return (
        "No table looks like a users table: none has a column for the Clerk ID, or a usual name such as users."
        " Name yours: sync-service mapping suggest --table public.my_table"
    )


def _find_similar(overview: Overview, schema: str, name: str) -> str | None:
    """Return the table of this name in another schema, or a table with a similar name."""
    names = {table.display_name.lower(): table.display_name for table in overview.tables}
    same = [table.display_name for table in overview.tables if table.name.lower() == name.lower()]
    close = get_close_matches(f"{schema}.{name}".lower(), names, n=1)
    return next(iter([*same, *(names[found] for found in close)]), None)


def _summarize(facts: Evidence, candidates: Sequence[Candidate]) -> str:
    """Return the choices that the user should know about, and the next step, for the terminal."""
    lines = [f"Suggested a mapping for {facts.table.schema}.{facts.table.name}; each line has its reason beside it."]
    if others := [found.table.display_name for found in candidates[1:]]:
        lines.append(f"If your users are in another table ({', '.join(others)}), name it with --table.")
    if facts.link:
        lines.append(
            f"The Clerk IDs are in {facts.link.display_name}. The service needs them in the users table itself:"
            " `sync-service doctor` prints the SQL."
        )
    for column, reason in list_unsolved(facts).items():
        lines.append(f"{column} needs a value in each new row: {reason}.")
    lines.append("Next: `sync-service migrate`, then `sync-service doctor`.")
    return "\n".join(lines)
