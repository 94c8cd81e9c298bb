"""Frames forwarded between two ports of one process, on one core: `python bench/switch.py`."""

from __future__ import annotations

import argparse
import time

from virtio.network import NullLink
from virtio.network.switch import PortSettings, Switch
from virtio.testing.wire import Wire, put_frames

BURST = 32


def measure(size: int, seconds: float, **settings: object) -> float:
    """Millions of frames a second to a receiver that only counts them."""
    switch = Switch()
    ports = [switch.add(PortSettings(**settings)) for _ in range(2)]  # type: ignore[arg-type]
    addresses = [bytes.fromhex(f"5254000000{number:02x}") for number in (1, 2)]
    answer = Wire(room=0)
    ports[0].connect(answer)
    ports[1].connect(NullLink())
    put_frames(ports[1], [addresses[0] + addresses[1] + bytes(50)])
    frames = [addresses[1] + addresses[0] + bytes.fromhex("88b5") + bytes(size - 14)] * BURST
    best, times = 0.0, 20000
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.perf_counter()
        put_frames(ports[0], frames, cut=(), times=times)
        best = max(best, times * BURST / (time.perf_counter() - start) / 1e6)
    return best


def main() -> None:
    """Measure plain and VLAN ports and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each figure")
    seconds = parser.parse_args().seconds
    for name, settings in (("plain", {}), ("access", {"vlan": 10})):
        print(f"{name} ports, 64 B, bursts of {BURST}: {measure(64, seconds, **settings):.1f} Mpps")


if __name__ == "__main__":
    main()
