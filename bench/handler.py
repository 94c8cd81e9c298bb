"""How many requests a second a device answers whose handler is an ordinary Python function.

The device looks like a disk, so that the compiled load generator can drive it: each request is 16 bytes in,
and 512 bytes and a status out. It is served from one core and driven from another, over split and over
packed rings, by a plain function and by a coroutine.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import virtio
from backends import running, socket_path
from output import as_text
from tables import medians
from virtio.device import ConfigSpace
from virtio.spec import blk

ANSWER = bytes(512) + bytes([blk.S_OK])
DEPTHS = (32, 128)


class Plain(virtio.Device):
    """Answers every request in a function."""

    device_id = 2
    config = ConfigSpace(blk.Config, capacity=1 << 20)
    queues = (virtio.Queue("requests", size=256),)

    def requests(self, request: virtio.Request) -> None:
        request.read(16)
        request.write(ANSWER)


class Coroutine(Plain):
    """Answers every request in a coroutine."""

    async def requests(self, request: virtio.Request) -> None:  # type: ignore[override]
        request.read(16)
        request.write(ANSWER)


KINDS = {"plain function": Plain, "coroutine": Coroutine}


def measure(rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """{name: figures}, each the median of the rounds."""
    results = {}
    for kind in KINDS:
        for packed in (False, True):
            for depth in DEPTHS:
                runs = [_one_run(kind, packed, depth, seconds) for _ in range(rounds)]
                name = f"{kind}, {'packed' if packed else 'split'}, depth {depth}"
                results[name] = medians(runs)
    return results


def _one_run(kind: str, packed: bool, depth: int, seconds: float) -> dict[str, float]:
    load = {"block_size": 512, "depth": depth, "seconds": seconds}
    with socket_path() as socket:
        command = [sys.executable, __file__, "--serve", kind, socket]
        with running(command, socket) as backend:
            return backend.load(load=load, connect={"packed": packed})


def main() -> None:
    """Measure and print, or be the device that is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default 5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each time (default 1)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--serve", nargs=2, metavar=("KIND", "SOCKET"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        kind, socket = arguments.serve
        virtio.serve(KINDS[kind](), socket)
        return
    quick = arguments.quick
    results: dict[str, Any] = measure(1 if quick else arguments.rounds, 0.2 if quick else arguments.seconds)
    print(json.dumps(results, indent=2) if arguments.json else as_text({"handler": results}))


if __name__ == "__main__":
    main()
