"""Runs the fuzzers, one after the other, on the modules that `make fuzz` built: `python fuzz --help`."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "fuzz"
TARGETS = ("device_ring", "driver_ring", "blk_requests", "vhost_user")
LONGEST = 1024  # bytes of an input
STUCK = 30  # seconds after which an input counts as a hang


def environment() -> dict[str, str]:
    """The instrumented modules before the usual ones, and the runtime that they and libFuzzer need.

    Python keeps small objects from the sanitizer's sight unless told to use malloc, and frees little at its
    exit. SIGBUS belongs to the guard of guest memory.
    """
    packages = Path(sysconfig.get_path("purelib"))
    return {
        **os.environ,
        "LD_PRELOAD": str(packages / "asan_with_fuzzer.so"),
        "ASAN_OPTIONS": "detect_leaks=0:handle_sigbus=0",
        "PYTHONMALLOC": "malloc",
        "VIRTIO_FUZZING": "1",
        "PYTHONPATH": f"{BUILD / 'site'}:{packages}",
    }


def interpreter() -> str:
    """The one below the virtual environment, which would find the usual modules first."""
    return str(Path(sys.base_prefix) / "bin" / f"python{sysconfig.get_python_version()}")


def command(target: str, *options: str) -> list[str]:
    """How a fuzzer is called; ``options`` are libFuzzer's, or files to try instead."""
    script = str(HERE / f"{target}.py")
    return [interpreter(), script, *options, f"-timeout={STUCK}", "-rss_limit_mb=4096", "-handle_bus=0"]


def run(target: str, seconds: int) -> bool:
    """Fuzz one target; whether nothing was found. What it says goes to a log."""
    log = BUILD / f"{target}.log"
    options = (
        str(BUILD / "corpus" / target),
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        f"-artifact_prefix={BUILD}/{target}-",
    )
    with log.open("wb") as output:
        status = subprocess.run(command(target, *options), env=environment(), stdout=output, stderr=output)
    text = log.read_text(errors="replace")
    if status.returncode:
        print(f"{target}: FAILED, see {log}\n{_essence(text)}", flush=True)
        return False
    runs = re.findall(r"^Done (\d+) runs", text, re.M)
    reached = re.findall(r"\bcov: (\d+)", text)
    print(f"{target}: {runs[-1]} inputs, {reached[-1]} edges reached, nothing found", flush=True)
    return True


def _essence(text: str) -> str:
    """The part of a log that says what happened."""
    marks = ("Uncaught Python exception", "ERROR:", "runtime error", "Test unit written", "SUMMARY")
    lines = text.splitlines()
    return "\n".join(line for line in lines if any(mark in line for mark in marks)) or "\n".join(lines[-20:])


def main() -> None:
    """Fuzz, or try single inputs again."""
    parser = argparse.ArgumentParser(prog="python fuzz", description=__doc__)
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all by default"
    )
    parser.add_argument("--seconds", type=int, default=60, help="how long each (default 60)")
    parser.add_argument("--again", metavar="FILE", type=Path, help="run TARGET on this one input")
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(TARGETS):
        parser.error(f"no target {', '.join(sorted(unknown))}")
    targets = arguments.targets or TARGETS
    BUILD.mkdir(parents=True, exist_ok=True)
    if arguments.again:
        sys.exit(subprocess.run(command(targets[0], str(arguments.again)), env=environment()).returncode)
    failed = [target for target in targets if not run(target, arguments.seconds)]
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
