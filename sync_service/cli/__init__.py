"""The command line: each command a few lines onto a room.

Exit status: 0 done and nothing wrong, 1 something is wrong or was left undone, 2 usage or settings, 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from sync_service.cli import dev, docs, doctor, events, mapping, migrate, send, serve, users
from sync_service.errors import SettingsError, SyncError, Unfit

COMMANDS = (dev, serve, migrate, send, events, doctor, mapping, users, docs)


def main() -> None:
    """Run `sync-service` with the process's arguments and environment."""
    sys.exit(run(sys.argv[1:], os.environ))


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="sync-service", description="Keeps an application's own PostgreSQL users table true to Clerk."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_to(commands)
    try:
        parsed = parser.parse_args(arguments)
    except SystemExit as done:  # argparse has said why
        return int(done.code or 0)
    try:
        status: int = parsed.run(parsed, environ)
    except (SettingsError, Unfit) as error:
        print(_told(_HEADLINES[type(error)], error.faults), file=sys.stderr)
        return 2
    except SyncError as error:
        print(f"sync-service: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read our output has gone, as `| head` does; Python would complain once more at exit.
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        return 130
    return status


_HEADLINES = {
    SettingsError: "The settings are not right, so nothing was started.",
    Unfit: "The mapping does not fit the table; `sync-service doctor` says more.",
}


def _told(headline: str, faults: Sequence[str]) -> str:
    return "\n".join([f"sync-service: {headline}", *(f"  {fault}" for fault in faults)])
