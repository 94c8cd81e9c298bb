"""The first act: a device and a driver, both Python, over a real vhost-user socket. No privileges needed."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import replace

from virtio.demo.act import Act, binary_size
from virtio.demo.stage import Stage
from virtio.devices.blk import Blk as BlkDevice
from virtio.drivers import Blk, LoadOptions, LoadResult, run_load
from virtio.errors import DeviceError
from virtio.serve import serving
from virtio.spec import features as bits

__all__ = ["direct_act"]

DISK_SIZE = 256 << 20
CONTENT_SIZE = 32 << 20
DEPTH = 32
SLICE_SECONDS = 0.2
MIXED = LoadOptions(depth=DEPTH, read_percent=50, verify=True)
READS = LoadOptions(depth=DEPTH)


def direct_act(stage: Stage, number: int, *, seconds: float = 1.5) -> Act:
    """Serve a disk in memory and drive it; each of the two loads lasts ``seconds``."""
    act = Act("direct", "A disk served from Python, driven from Python, through a vhost-user socket")

    def perform(act: Act, stage: Stage) -> None:
        with tempfile.TemporaryDirectory(prefix="pyvirtio-demo-") as directory:
            socket = os.path.join(directory, "disk.sock")
            with (
                BlkDevice(f"mem:{DISK_SIZE}", serial="pyvirtio demo") as device,
                serving(device, socket),
                Blk.connect(socket) as disk,
            ):
                _introduce(act, stage, disk)
                _check_content(act, stage, disk)
                _mixed_load(act, stage, disk, seconds)
                _reads(act, stage, disk, seconds)

    return act.play(stage, number, perform)


def _introduce(act: Act, stage: Stage, disk: Blk) -> None:
    ring = "packed" if disk.has(bits.RING_PACKED) else "split"
    act.found(
        stage,
        "device",
        f"{disk.serial!r}, {binary_size(disk.capacity)}, {ring} ring of {disk.queues[0].size} descriptors",
        capacity=disk.capacity,
    )


def _check_content(act: Act, stage: Stage, disk: Blk) -> None:
    size = CONTENT_SIZE
    stage.working("content", f"writing {binary_size(size)} and reading them back")
    data = os.urandom(size)
    disk.write(0, data)
    disk.flush()
    written, back = (hashlib.sha256(one).hexdigest() for one in (data, disk.read(0, size)))
    if written != back:
        raise DeviceError(f"{binary_size(size)} were written and others read back: {written} became {back}")
    text = f"{binary_size(size)} written, flushed and read back: the same (sha256 {back[:16]})"
    act.found(stage, "content", text, content_bytes=size)


def _mixed_load(act: Act, stage: Stage, disk: Blk, seconds: float) -> None:
    total = _load(stage, "load", disk, MIXED, seconds)
    text = f"{_rate(total.iops)} of 4 KiB, half writes, {DEPTH} in flight: all data read was right"
    act.found(stage, "load", text, mixed_iops=total.iops, mixed_requests=total.requests)


def _reads(act: Act, stage: Stage, disk: Blk, seconds: float) -> None:
    total = _load(stage, "throughput", disk, READS, seconds)
    median = total.percentile(50) / 1000
    text = (
        f"{_rate(total.iops)} (random reads of 4 KiB, {DEPTH} in flight), "
        f"{binary_size(total.bandwidth)}/s, median {median:.3g} us"
    )
    act.found(stage, "throughput", text, read_iops=total.iops, read_median_us=median)


def _load(stage: Stage, label: str, disk: Blk, options: LoadOptions, seconds: float) -> LoadResult:
    """In slices, to be able to tell how it goes."""
    total: LoadResult | None = None
    while (spent := total.seconds if total else 0.0) < seconds:
        wanted = min(SLICE_SECONDS, seconds - spent)
        part = run_load(disk, replace(options, seconds=wanted, seed=1 + round(spent * 1000)))
        if part.errors or part.mismatches:
            raise DeviceError(
                f"of {part.requests} requests {part.errors} failed and {part.mismatches} read wrong data"
            )
        total = _add(total, part) if total else part
        stage.progress(label, min(1.0, total.seconds / seconds), _rate(part.iops))
    assert total is not None
    return total


def _add(one: LoadResult, other: LoadResult) -> LoadResult:
    limits = one.latencies.keys() | other.latencies.keys()
    return replace(
        one,
        requests=one.requests + other.requests,
        seconds=one.seconds + other.seconds,
        cpu_seconds=one.cpu_seconds + other.cpu_seconds,
        kicks=one.kicks + other.kicks,
        sleeps=one.sleeps + other.sleeps,
        max_latency=max(one.max_latency, other.max_latency),
        latencies={n: one.latencies.get(n, 0) + other.latencies.get(n, 0) for n in limits},
    )


def _rate(per_second: float) -> str:
    if per_second >= 1e6:
        return f"{per_second / 1e6:.2f} million requests/s"
    return f"{per_second:,.0f} requests/s".replace(",", " ")
