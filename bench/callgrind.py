"""What callgrind counted: its output format, and the difference of two runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Valgrind knows no AVX-512; the C library must not choose it either.
TUNABLES = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512CD,-AVX512DQ,-AVX512_VBMI"
NAME = re.compile(r"(c?)fn=\((\d+)\)(?: (.*))?")
# __pyx_f_6virtio_6device_6worker_11QueueWorker_serve: package, modules, class, each with its length.
MANGLED = re.compile(r"__pyx_(?:vtab|pf|pw|f|fuse)\w*?_(\d+virtio_.*)")


@dataclass
class Counts:
    """Instructions: by function, those of its own, and for each call (caller, callee), those within."""

    own: Counter[str] = field(default_factory=Counter)
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)

    def minus(self, other: Counts) -> Counts:
        """What this run executed and the other did not."""
        own = Counter(self.own)
        own.subtract(other.own)
        calls = Counter(self.calls)
        calls.subtract(other.calls)
        return Counts(own, calls)

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.own.values())

    def within(self, caller: str, callee: str) -> int:
        """Instructions between the calls of one function by another and their return.

        Both are the ends of names: "publish_and_kick", "serve".
        """
        return sum(
            count
            for (outer, inner), count in self.calls.items()
            if outer.endswith(caller) and inner.endswith(callee)
        )


def parse(lines: Iterable[str]) -> Counts:
    """Read a file that callgrind wrote."""
    counts, names = Counts(), dict[str, str]()
    current = callee = ""
    is_call = False
    for line in lines:
        if found := NAME.match(line):
            prefix, number, name = found.groups()
            if name:
                names[number] = readable(name)
            if prefix:
                callee = names[number]
            else:
                current = names[number]
        elif line.startswith("calls="):
            is_call = True
        elif line[:1].isdigit() or line[:1] in "+-*":
            instructions = int(line.split()[1]) if len(line.split()) > 1 else 0
            if is_call:
                counts.calls[current, callee] += instructions
            else:
                counts.own[current] += instructions
            is_call = False
    return counts


def readable(symbol: str) -> str:
    """A compiled method's name as it stands in the source: device.worker.QueueWorker.serve."""
    symbol = re.sub(r"\.(?:constprop|isra|part|cold|lto_priv)\.?\d*", "", symbol).split("'")[0]
    found = MANGLED.match(symbol)
    if found is None:
        return symbol
    parts, rest = [], found[1]
    while length := re.match(r"(\d+)", rest):
        start = length.end()
        parts.append(rest[start : start + int(length[1])])
        rest = rest[start + int(length[1]) :].removeprefix("_")
    return ".".join([*parts[1:], rest] if rest else parts[1:])


def installed() -> bool:
    """Whether there is a valgrind."""
    return shutil.which("valgrind") is not None


def count(arguments: Sequence[str], *, dump_before: str) -> list[Counts]:
    """Run a Python program under callgrind: what it executed up to each call of a function.

    ``dump_before`` names the function; `*` stands for anything.
    """
    with tempfile.TemporaryDirectory(prefix="virtio-bench-") as folder:
        output = Path(folder) / "out"
        command = [
            "valgrind", "--tool=callgrind", "-q", f"--callgrind-out-file={output}",
            f"--dump-before={dump_before}", sys.executable, *arguments,
        ]  # fmt: skip
        # One seed: the layout of dictionaries, and with it what the interpreter executes, is then the same.
        environment = {**os.environ, "GLIBC_TUNABLES": TUNABLES, "PYTHONHASHSEED": "0"}
        done = subprocess.run(command, env=environment, capture_output=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}:\n{done.stderr.decode(errors='replace')}")
        parts = sorted(output.parent.glob("out.*"), key=lambda path: int(path.suffix[1:]))
        return [parse(path.read_text(errors="replace").splitlines()) for path in parts]
