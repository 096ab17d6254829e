"""The house's plan: imports point down it, and what blocks stays out of the web."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ckanpackager"

# From the top down; what stands on one line does not import one another.
LAYERS = [
    ["__main__"],
    ["cli", "service"],
    ["demo"],
    ["commands"],
    ["web"],
    ["jobs"],
    ["packager"],
    ["sources", "writers", "notify", "store", "checkpoint"],
    ["archive", "stats", "dwc", "database", "systemd", "logs"],
    ["job", "settings"],
    ["form", "checks", "figures", "digits", "faults"],
    ["eml"],
    ["errors"],
]
# What carries no knowledge of jobs: a page of records is the border between sources and writers.
BORDERS = {"ckanpackager.sources.base"}
BLOCKING = {"requests", "smtplib", "zipfile", "lxml", "xml", "urllib.request", "isal", "subprocess"}


def layer(part: str) -> int:
    return next(number for number, parts in enumerate(LAYERS) if part in parts)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            module = node.module or ""
            parts = {f"{module}.{name.name}" for name in node.names} if module == "ckanpackager" else {module}
            found |= parts - {"ckanpackager.__version__"}
    return found


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(path) - BORDERS:
        if not name.startswith("ckanpackager."):
            continue
        other = name.split(".")[1]
        assert other == own or layer(other) > layer(own), f"{path} imports {name}, which is not below it"


@pytest.mark.parametrize("path", sorted((PACKAGE / "web").glob("*.py")), ids=lambda path: path.name)
def test_nothing_in_the_web_process_blocks(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)} | imports(path)
    assert not roots & BLOCKING


def test_what_carries_out_a_task_is_not_loaded_by_the_service() -> None:
    code = "import sys, ckanpackager.service; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "ckanpackager.web.app" in loaded.split()
    assert not {"requests", "smtplib", "lxml", "isal"} & set(loaded.split())
