"""Programs and packages of other projects that some tests run: promtool, chromium, haproxy, node and others."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

# Debian's package of each program.
PACKAGES = {
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "chromium": "chromium",
    "haproxy": "haproxy",
    "etcd": "etcd-server",
    "patroni": "patroni",
    "node": "nodejs",
}

# Only root has this folder on its PATH.
SYSTEM_FOLDER = "/usr/sbin"

# `make javascript` installs the packages of tests/javascript/package.json here.
JAVASCRIPT = Path(__file__).resolve().parents[1] / ".venv" / "javascript"


def require_tool(name: str) -> str:
    """Return the path of a program. Without it the test is skipped; with REQUIRE_TOOLS set, it fails."""
    path = shutil.which(name, path=f"{os.environ['PATH']}{os.pathsep}{SYSTEM_FOLDER}")
    if path is None:
        skip_without_tool(f"{name} is not installed; Debian has it in the package {PACKAGES[name]}")
    return path


def require_javascript_packages() -> tuple[str, Path]:
    """Return the path of Node.js, and the folder of the packages."""
    node = require_tool("node")
    if not (JAVASCRIPT / "node_modules" / "svix").is_dir():
        skip_without_tool(
            "the JavaScript packages are not installed; `make javascript` installs them", required="REQUIRE_JAVASCRIPT"
        )
    return node, JAVASCRIPT


def skip_without_tool(reason: str, required: str = "REQUIRE_TOOLS") -> NoReturn:
    """Skip the test, or let it fail if the variable is set."""
    if os.environ.get(required):
        pytest.fail(f"{reason}. {required} is set, so this test must run.")
    pytest.skip(reason)
