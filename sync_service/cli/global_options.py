"""The options of `sync-service` itself. They import their libraries only if they are given."""

import argparse
from typing import Any

# The functions of shtab's scripts that complete the name of a file. They are shtab.FILE.
FILE_COMPLETION = {
    "bash": "_shtab_compgen_files",
    "zsh": "_files",
    "tcsh": "f",
    "fish": "(__fish_complete_path (commandline -ct))",
    "powershell": "_shtab_powershell_compgen_files",
}


class VersionAction(argparse.Action):
    """`--version`: print the version of the installed package."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print it and exit."""
        from importlib.metadata import version  # noqa: PLC0415  no other command needs it

        print(f"sync-service {version('sync-service')}")
        parser.exit()


class CompletionAction(argparse.Action):
    """`--print-completion SHELL`: print a script that completes commands and options."""

    def __call__(self, parser: argparse.ArgumentParser, _: argparse.Namespace, shell: Any, *__: Any) -> None:
        """Print it and exit."""
        import shtab  # noqa: PLC0415  no other command needs it

        if shell not in shtab.SUPPORTED_SHELLS:
            parser.error(f"--print-completion: the shells are {', '.join(shtab.SUPPORTED_SHELLS)}")
        print(shtab.complete(parser, shell))
        parser.exit()
