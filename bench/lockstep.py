"""A disk's worker and the load generator on one thread, so that a request's cost is no matter of luck.

    python bench/lockstep.py REQUESTS KIND...

is what a profiler is pointed at: for each kind so many requests to warm up, as many again, three times as
many, and none. It prints nothing. `instructions.py` counts, `anatomy.py` times.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from virtio.device.worker import QueueWorker
from virtio.devices.blk.disk import Disk
from virtio.devices.blk.engine import BlkEngine
from virtio.devices.blk.executor import Executor
from virtio.drivers.blkload import HEAD_SIZE, BlkLoad
from virtio.spec import features
from virtio.storage import Storage, mapped_backend, open_storage
from virtio.testing.lockstep import LockstepChannel
from virtio.testing.rig import RING_PACKED, Rig, shared_memory
from virtio.virtqueue.queue import DeviceQueue

RING = 256
COMMON = features.mask(features.VERSION_1, features.INDIRECT_DESC, features.EVENT_IDX)
FILE_BYTES = 16 << 20


@dataclass(frozen=True)
class Kind:
    """What is served, and with which requests. ``storage`` is a URL, "{file}" in it a hot file's path.

    No storage at all: the worker gives back every chain unread, which leaves the rings. Only the first
    ``span`` bytes are used.
    """

    name: str
    storage: str = ""
    packed: bool = False
    load: dict[str, Any] = field(default_factory=dict)
    span: int = 1 << 30


# Larger than a processor's own cache; small enough to be dirty before it is measured, since the first write
# to a page after its write-back is the file system's affair.
WRITTEN: dict[str, Any] = {"load": {"read_percent": 0}, "span": 64 << 20}

KINDS = [
    Kind("rings, split"),
    Kind("rings, packed", packed=True),
    Kind("null, split", "null:1G"),
    Kind("null, packed", "null:1G", packed=True),
    Kind("mapped read 4k, split", "{file}"),
    Kind("mapped read 4k, packed", "{file}", packed=True),
    Kind("pread 4k, split", "file:{file}?map=off"),
    Kind("mapped write 4k, split", "{file}", **WRITTEN),
    Kind("pwrite 4k, split", "file:{file}?map=off", **WRITTEN),
]


def kind_named(name: str) -> Kind:
    return next(kind for kind in KINDS if kind.name == name)


@dataclass
class Lockstep:
    """One queue of one disk, ready for load."""

    load: BlkLoad
    channel: LockstepChannel

    def do(self, requests: int) -> None:
        """So many requests, done when this returns."""
        self.load.allow(requests)
        while self.load.left or self.load.in_flight:
            if not self.load.run(1_000_000_000):
                raise SystemExit(f"the ring broke: fault {self.load.fault}")
        if self.channel.ring_fault:
            raise SystemExit(f"the ring broke: fault {self.channel.ring_fault}")


@contextmanager
def lockstep(
    kind: Kind, *, file: Path | None = None, depth: int = 32, timed: bool = False
) -> Iterator[Lockstep]:
    """Make one. ``file`` is served where the kind wants one; else a hot file of its own is made."""
    with ExitStack() as stack:
        load: dict[str, Any] = {"depth": depth, "block_size": 4096, "polling": False, **kind.load}
        buffers = depth * (HEAD_SIZE + load["block_size"])
        rig = Rig(RING, COMMON | (RING_PACKED if kind.packed else 0), buffer_bytes=buffers + 4096)
        memory = shared_memory(rig.total)
        size, worker = _worker(kind, file, rig.device(memory), stack)
        channel = LockstepChannel(rig.driver(memory), worker, timed=timed)
        data = -(-(rig.buffers + depth * HEAD_SIZE) // 4096) * 4096
        generator = BlkLoad(
            channel,
            (rig.buffers, memory.view(rig.buffers, depth * HEAD_SIZE)),
            (data, memory.view(data, depth * load["block_size"])),
            blocks=min(size, kind.span) // load["block_size"],
            **load,
        )
        yield Lockstep(generator, channel)


def _worker(kind: Kind, file: Path | None, queue: DeviceQueue, stack: ExitStack) -> tuple[int, QueueWorker]:
    if not kind.storage:
        return 1 << 30, QueueWorker(queue)
    if "{file}" in kind.storage and file is None:
        file = stack.enter_context(_small_hot_file())
    storage: Storage = stack.enter_context(open_storage(kind.storage.format(file=file)))
    disk = Disk(storage.backend, storage.size, name="disk", read_only=False, writeback=True, identity=b"id")
    executor = Executor(storage.backend)
    stack.callback(executor.close)
    return storage.size, BlkEngine(queue, disk, executor)


@contextmanager
def _small_hot_file() -> Iterator[Path]:
    with tempfile.NamedTemporaryFile(prefix="virtio-bench-") as file:
        file.write(bytes(FILE_BYTES))
        file.flush()
        yield Path(file.name)


def main() -> None:
    requests, *kinds = sys.argv[1:]
    mapped_backend.ROOM = 1 << 30  # address space to grow into: valgrind has little of it
    for kind in kinds:
        with lockstep(kind_named(kind)) as pair:
            for times in (1, 1, 3, 0):
                pair.do(times * int(requests))


if __name__ == "__main__":
    main()
