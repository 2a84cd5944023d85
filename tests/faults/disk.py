"""A disk so small that it can be filled: a tmpfs of its own, for root on Linux."""

import contextlib
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

CHUNK = bytes(4096)


class Disk:
    """The mounted folder, and what fills it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, *, but: int = 0) -> None:
        """Take every byte that is free, but so many."""
        status = os.statvfs(self.folder)
        left = status.f_bavail * status.f_frsize - but
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as ballast:
            while left > 0:
                left -= ballast.write(CHUNK)

    def free(self) -> int:
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize

    def empty(self) -> None:
        self._ballast.unlink()


@contextlib.contextmanager
def small_disk(megabytes: int) -> Iterator[Disk | None]:
    """Mount one for the length of the block, or yield None where that cannot be done."""
    # Not in pytest's folders, which are closed to PostgreSQL's owner.
    folder = Path(tempfile.mkdtemp(prefix="sync-disk-"))
    folder.chmod(0o711)
    try:
        with _mounted(folder, megabytes) as disk:
            yield disk
    finally:
        folder.rmdir()


@contextlib.contextmanager
def _mounted(folder: Path, megabytes: int) -> Iterator[Disk | None]:
    if sys.platform != "linux" or os.geteuid() != 0:
        yield None
        return
    words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0711", "none", str(folder)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        nobody = pwd.getpwnam("nobody")
        (folder / "postgres").mkdir(mode=0o700)
        os.chown(folder / "postgres", nobody.pw_uid, nobody.pw_gid)
        yield Disk(folder)
    finally:
        # Lazily: what still has a file open there keeps it to itself.
        subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=True)
