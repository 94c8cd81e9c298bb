"""The structure that DESIGN promises: imports point downwards, public names are the intended ones."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "virtio"

# Lowest first: a package may import those before it, never one after it.
ORDER = (
    "errors",
    "closing",
    "spec",
    "memory",
    "virtqueue",
    "device",
    "storage",
    "network",
    "devices",
    "vhost_user",
    "service",
    "drivers",
    "vm",
    "testing",
    "demo",
    "cli",
)


def imported_packages(path: Path) -> set[str]:
    """The packages of ours that one Python or pxd source names in its imports."""
    if path.suffix == ".pxd":
        words = [line.split()[1] for line in path.read_text().splitlines() if line.startswith("from virtio.")]
    else:
        words = list(python_imports(path))
    words = [word.removeprefix("cython.cimports.") for word in words]
    return {word.split(".")[1] for word in words if word.startswith("virtio.")}


def python_imports(path: Path) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


SOURCES = sorted(path for pattern in ("*.py", "*.pxd") for path in SOURCE.rglob(pattern))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_downwards(path: Path) -> None:
    package = path.relative_to(SOURCE).parts[0].removesuffix(".py").removesuffix(".pxd")
    if package == "__init__":
        return
    allowed = set(ORDER[: ORDER.index(package) + 1])
    upwards = imported_packages(path) - allowed
    assert not upwards, f"{package} may not import {sorted(upwards)}"


def test_every_package_has_its_place() -> None:
    packages = {path.name.removesuffix(".py") for path in SOURCE.iterdir() if not path.name.startswith("_")}
    assert packages - {"py.typed"} <= set(ORDER)


def test_the_architecture_lists_the_packages_in_order() -> None:
    text = (SOURCE.parent.parent / "ARCHITECTURE.md").read_text()
    table = text.partition("## The packages")[2].partition("\n## ")[0]
    listed = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    packages = {path.name.removesuffix(".py") for path in SOURCE.iterdir()}
    assert listed == [package for package in ORDER if package in packages]
