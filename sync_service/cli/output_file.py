"""The file that a command writes: a failure leaves none behind, and no file is overwritten."""

import contextlib
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sync_service.errors import SettingsError


def check_new_file(option: str, file: Path) -> None:
    """Raise `SettingsError` if the file exists and is not empty. An empty file is the rest of a failed command."""
    if file.is_dir() or (file.exists() and file.stat().st_size):
        raise SettingsError([f"{option}: {file} exists; remove it, or name another file"])
    if not file.parent.is_dir():
        raise SettingsError([f"{option}: there is no folder {file.parent}"])


def write_new_file(file: Path, text: str) -> None:
    """Write the whole file, or none of it."""
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def remove_empty_output(names: Sequence[str]) -> Iterator[None]:
    """Remove the file behind standard output if the block fails before it prints.

    A shell creates the file of `> sync.toml` before the command starts. Linux tells its name; elsewhere the file is
    found if it is one of `names`.
    """
    try:
        yield
    except BaseException:  # Ctrl-C, too
        remove_output(names)
        raise


def remove_output(names: Sequence[str]) -> None:
    """Remove the file behind standard output if it is empty, as `remove_empty_output` does."""
    sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError):  # ValueError: standard output is no file, as in a test
        output = os.fstat(sys.stdout.fileno())
        if not stat.S_ISREG(output.st_mode) or output.st_size:
            return
        for name in (os.path.realpath("/dev/fd/1"), *names):
            with contextlib.suppress(OSError):
                if os.path.samestat(Path(name).stat(), output):
                    Path(name).unlink()
