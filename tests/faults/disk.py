"""A disk small enough to fill: a tmpfs of its own, for root on Linux."""

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
    """The mounted folder and the file that fills it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, *, keep: int = 0) -> None:
        """Use all free bytes except so many."""
        status = os.statvfs(self.folder)
        remaining = status.f_bavail * status.f_frsize - keep
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as ballast:
            while remaining > 0:
                remaining -= ballast.write(CHUNK)

    def free(self) -> int:
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize

    def empty(self) -> None:
        self._ballast.unlink()


@contextlib.contextmanager
def mount_small_disk(megabytes: int) -> Iterator[Disk | None]:
    """Mount such a disk within the block, or yield None if that is impossible."""
    # Not below pytest's folders, which are closed to PostgreSQL's user.
    folder = Path(tempfile.mkdtemp(prefix="sync-disk-"))
    folder.chmod(0o711)
    try:
        with _mount(folder, megabytes) as disk:
            yield disk
    finally:
        folder.rmdir()


@contextlib.contextmanager
def _mount(folder: Path, megabytes: int) -> Iterator[Disk | None]:
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
        # Lazily, because a process may still have a file open there.
        subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=True)
