"""A worker and its driver on one thread."""

from __future__ import annotations

import pytest

from virtio.device.worker import QueueWorker
from virtio.devices.blk.disk import Disk
from virtio.devices.blk.engine import BlkEngine
from virtio.devices.blk.executor import Executor
from virtio.spec import blk
from virtio.storage import Storage
from virtio.testing.lockstep import LockstepChannel
from virtio.testing.rig import RING_PACKED, Rig, shared_memory

HEADER, DATA, STATUS = 0, 64, 64 + 512


@pytest.fixture(params=[0, RING_PACKED], ids=["split", "packed"])
def rig(request: pytest.FixtureRequest) -> Rig:
    return Rig(8, request.param, buffer_bytes=4096)


def test_what_is_published_is_served_at_once(rig: Rig) -> None:
    memory = shared_memory(rig.total)
    channel = LockstepChannel(rig.driver(memory), QueueWorker(rig.device(memory)), timed=True)
    for token in range(20):
        assert channel.add([], [(rig.buffers, 16)], token)
        assert not channel.finished()
        channel.publish()
        assert channel.reap() == [(token, 0)]
    assert (channel.rounds, channel.kicks, channel.ring_fault) == (20, 0, 0)
    assert channel.served_ns > 0


def test_a_chain_that_breaks_the_rules(rig: Rig) -> None:
    memory = shared_memory(rig.total)
    channel = LockstepChannel(rig.driver(memory), QueueWorker(rig.device(memory)))
    assert channel.add([], [(rig.total + 4096, 16)], 1)
    channel.publish()
    assert channel.reap() == []
    assert channel.ring_fault < 0


def test_what_other_threads_do_is_waited_for(rig: Rig) -> None:
    class Slow(Storage):
        def read(self, offset: int, buffer: memoryview) -> None:
            buffer[:] = bytes([offset // 512]) * len(buffer)

    memory = shared_memory(rig.total)
    storage = Slow(4096)
    disk = Disk(storage.backend, storage.size, name="disk", read_only=False, writeback=True, identity=b"id")
    executor = Executor(storage.backend)
    channel = LockstepChannel(rig.driver(memory), BlkEngine(rig.device(memory), disk, executor))
    at = rig.buffers
    memory.write(at + HEADER, blk.ReqHeader(type=blk.T_IN, sector=3).pack())
    assert channel.add([(at + HEADER, 16)], [(at + DATA, 512), (at + STATUS, 1)], 5)
    channel.publish()
    while not channel.finished():
        channel.wait(10**9)
    assert channel.reap() == [(5, 513)]
    assert memory.read(at + DATA, 513) == bytes([3]) * 512 + bytes([blk.S_OK])
    assert executor.close()
