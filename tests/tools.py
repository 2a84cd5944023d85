"""Programs of other projects that some tests run: promtool, prometheus, chromium, haproxy, etcd, patroni."""

import os
import shutil

import pytest

# Debian's package of each program.
PACKAGES = {
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "chromium": "chromium",
    "haproxy": "haproxy",
    "etcd": "etcd-server",
    "patroni": "patroni",
}

# Only root has this folder on its PATH.
SYSTEM_FOLDER = "/usr/sbin"


def require_tool(name: str) -> str:
    """Return the path of a program. Without it the test is skipped; with REQUIRE_TOOLS set, it fails."""
    if path := shutil.which(name, path=f"{os.environ['PATH']}{os.pathsep}{SYSTEM_FOLDER}"):
        return path
    reason = f"{name} is not installed; Debian has it in the package {PACKAGES[name]}"
    if os.environ.get("REQUIRE_TOOLS"):
        pytest.fail(f"{reason}. REQUIRE_TOOLS is set, so this test must run.")
    pytest.skip(reason)
