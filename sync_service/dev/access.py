"""Restricts an embedded server that runs as `nobody` to connections from root.

Other processes of `nobody` own its socket, too. Peer authentication refuses them: PostgreSQL asks the kernel for the
user of each connection. The two files belong to root, so the server cannot change them either. A process of `nobody`
that may look into /proc of the server still reaches its data files, which only a user of its own could prevent.
"""

import pwd
from pathlib import Path

# The server listens on a Unix socket only; a test may add a TCP port of this machine.
_HBA = """\
local all {users} peer map=starter
local replication {users} peer map=starter
{others}host all all 127.0.0.1/32 trust
host all all ::1/128 trust
"""


def write_access_files(folder: Path, version: str) -> dict[str, str]:
    """Write the files into a folder of root that `nobody` may enter; return the server's parameters for them."""
    # Before version 16 a map names each role. Then only the superuser is restricted, the one role of a new database.
    has_maps_for_all = int(version) >= 16
    users, others = ("all", "") if has_maps_for_all else ("postgres", "local all all trust\n")
    texts = {
        "hba_file": _HBA.format(users=users, others=others),
        "ident_file": f"starter {pwd.getpwuid(0).pw_name} {users}\n",
    }
    folder.chmod(0o711)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o644)
    return {name: str(folder / name) for name in texts}
