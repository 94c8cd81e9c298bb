"""Small C programs of ours, compiled on the way with the C compiler at hand."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def compiled(name: str, folder: Path) -> Path | None:
    """NAME.c as a program in ``folder``; None, and a word about it, without a C compiler."""
    source, program = HERE / f"{name}.c", folder / name
    compiler = shutil.which("cc")
    if compiler is None:
        print(f"no C compiler: {source.name} is not measured", file=sys.stderr)
        return None
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([compiler, "-O2", "-pthread", "-o", program, source], check=True)
    return program
