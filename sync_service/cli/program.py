"""The command that the user types to start this program."""

import os
import shlex
import shutil
import sys
from pathlib import Path


def find_program() -> str:
    """Return `sync-service` if the shell finds this program by that name, else its path, for a line to paste."""
    script = Path(sys.argv[0]).absolute()
    if script.name != "sync-service":  # `python -m sync_service`; pip installs the script beside Python
        script = Path(sys.executable).with_name("sync-service")
    on_path = shutil.which("sync-service")
    if not script.exists() or (on_path and Path(on_path).samefile(script)):
        return "sync-service"
    folder = Path.cwd()
    return shlex.quote(os.fspath(script.relative_to(folder) if script.is_relative_to(folder) else script))
