"""The command line. Each command reads its arguments and calls functions of other modules.

Exit status: 0 success, 1 an error was found or some work failed, 2 wrong usage or settings, 130 interrupted.
"""

import argparse
import io
import os
import sys
from collections.abc import Mapping, Sequence

from sync_service.cli import (
    carry_overs,
    changes,
    dev,
    docs,
    doctor,
    events,
    mapping,
    migrate,
    openapi,
    reconcile,
    send,
    serve,
    token,
    users,
)
from sync_service.cli.global_options import CompletionAction, VersionAction
from sync_service.cli.output_file import remove_output
from sync_service.errors import MappingMismatch, SettingsError, SyncError
from sync_service.settings import MAPPING_FILE
from sync_service.terminal import escape_controls

COMMANDS = (
    dev,
    serve,
    migrate,
    send,
    token,
    events,
    changes,
    carry_overs,
    reconcile,
    doctor,
    mapping,
    users,
    docs,
    openapi,
)

STANDARD_ERROR = 2


def main() -> None:
    """Run `sync-service` with the process's arguments and environment."""
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # The terminal's encoding may lack a character of a name, or of a message of this program.
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:], os.environ))


def _open_standard_streams() -> None:
    """Open /dev/null in place of each closed standard stream. A socket would get its number, and libuv would abort."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STANDARD_ERROR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    # Python sets these to None if the stream was closed at its start.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: PTH123, SIM115  it stays open until the exit
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: PTH123, SIM115  as above


def create_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="sync-service", description="Keep an application's own PostgreSQL users table in sync with Clerk."
    )
    parser.add_argument("--version", action=VersionAction, nargs=0, help="print the version")
    parser.add_argument(
        "--print-completion", action=CompletionAction, metavar="SHELL", help="print a completion script: bash, zsh, …"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run one command and return its exit status."""
    try:
        status = _run_command(arguments, environ)
        # Print the end of the output now: an error in Python's own flush at exit could not be reported.
        print(end="", flush=True)
    except (SettingsError, MappingMismatch) as error:
        print(escape_controls(_format_errors(_HEADLINES[type(error)], error.errors)), file=sys.stderr)
        return 2
    except SyncError as error:
        print(escape_controls(f"sync-service: {error}"), file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of the output has closed the pipe, as `| head` does. Without stderr, Python cannot report it again.
        sys.stderr.close()
        return 1
    except OSError as error:
        # A full disk below the output, or a folder that cannot be written.
        print(f"sync-service: {error.strerror}{f': {error.filename}' if error.filename else ''}", file=sys.stderr)
        _discard_output()
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _run_command(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    parser = create_parser()
    try:
        parsed = parser.parse_args(arguments)
    except SystemExit as error:  # argparse has printed the reason
        if error.code and "suggest" in arguments:
            remove_output([MAPPING_FILE])
        return int(error.code or 0)
    status: int = parsed.run(parsed, environ)
    return status


def _discard_output() -> None:
    """Forget output that cannot be written, which Python would try to write once more at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_HEADLINES = {
    SettingsError: "Wrong settings or arguments, so the command did not start:",
    MappingMismatch: "The mapping does not fit the table; `sync-service doctor` shows details:",
}


def _format_errors(headline: str, errors: Sequence[str]) -> str:
    return "\n".join([f"sync-service: {headline}", *(f"  {error}" for error in errors)])
