"""Hold each compiled module's .pyi against the module itself, by mypy's stubtest."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src"
OPTIONAL = {"virtio.devices.blk.uring"}  # only with liburing


def compiled_modules() -> list[str]:
    """Dotted names of the modules that have a .pxd, a .py and so a .pyi of their own."""
    sources = (path for path in SOURCE.rglob("*.pxd") if path.with_suffix(".py").exists())
    names = {".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in sources}
    return sorted(names - {name for name in OPTIONAL if not _built(name)})


def _built(name: str) -> bool:
    try:
        import_module(name)
    except ImportError:
        return False
    return True


if __name__ == "__main__":
    modules = compiled_modules()
    without = [name for name in modules if not (SOURCE / name.replace(".", "/")).with_suffix(".pyi").exists()]
    if without:
        sys.exit(f"compiled modules without a .pyi: {', '.join(without)}")
    allow = Path(__file__).parent / "stubtest-allow.txt"
    command = [sys.executable, "-m", "mypy.stubtest", "--allowlist", str(allow), "--ignore-unused-allowlist"]
    sys.exit(subprocess.run([*command, *modules], check=False).returncode)
