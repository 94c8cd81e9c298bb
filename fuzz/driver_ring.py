"""Both ends of a ring, and somebody who writes into it at will between their steps.

Neither end may trust what it reads: the driver reports each chain at most once, never one that is not
outstanding, and never more bytes written than it has room for; either ends in a named error at worst.
"""

from __future__ import annotations

from reading import Reader, fuzz
from rings import read_rig
from virtio import errors
from virtio.memory import GuestMemory
from virtio.testing.rig import Rig, shared_memory
from virtio.virtqueue.queue import PoppedChain

STEPS = 256


class Pair:
    """A driver, a device, and what the driver has outstanding."""

    def __init__(self, rig: Rig, memory: GuestMemory) -> None:
        self.rig = rig
        self.memory = memory
        self.driver = rig.driver(memory)
        self.device = rig.device(memory)
        self.room: dict[int, int] = {}
        self.tokens = 0
        self.held: list[PoppedChain] = []

    def step(self, source: Reader) -> None:
        """One thing that either end or the intruder does."""
        steps = (self.add, self.publish, self.take, self.give, self.reap, self.intrude, self.bells)
        steps[source.number(1) % len(steps)](source)

    def add(self, source: Reader) -> None:
        shape = source.number(1)
        lengths = [source.number(1) + 1 for _ in range(shape >> 4 & 7)]
        readable, writable = lengths[: shape & 7], lengths[shape & 7 :]
        if not lengths or len(lengths) > self.rig.size:
            return
        buffers = self.rig.buffers
        if self.driver.add_buffers(
            [(buffers, length) for length in readable],
            [(buffers, length) for length in writable],
            self.tokens,
        ):
            self.room[self.tokens] = sum(writable)
            self.tokens += 1

    def publish(self, source: Reader) -> None:
        self.driver.publish_added()

    def take(self, source: Reader) -> None:
        try:
            chain = self.device.pop()
        except errors.RingError:
            assert self.device.fault_error() is not None
            return
        if chain is not None:
            self.held.append(chain)

    def give(self, source: Reader) -> None:
        if self.held:
            chain = self.held.pop(source.number(1) % len(self.held))
            self.device.push(chain, min(chain.writable_length, 0xFFFFFFFF))
        self.device.publish_used()

    def reap(self, source: Reader) -> None:
        try:
            completions = self.driver.reap_completions()
        except errors.DeviceError:
            assert self.driver.fault_error() is not None
            return
        for token, written in completions:
            assert written <= self.room.pop(token)
        assert self.driver.fault_error() or self.driver.outstanding == len(self.room)

    def intrude(self, source: Reader) -> None:
        """Overwrite some bytes of the ring or its tables."""
        offset = source.number(2) % self.rig.buffers
        self.memory.write(offset, source.take(source.number(1) % 9)[: self.rig.buffers - offset])

    def bells(self, source: Reader) -> None:
        which = source.number(1)
        end = self.driver if which & 1 else self.device
        if which & 2:
            end.request_notifications()
        else:
            end.suppress_notifications()


def target(source: Reader) -> None:
    rig = read_rig(source)
    memory = shared_memory(rig.total)
    pair = Pair(rig, memory)
    for _ in range(STEPS):
        if source.empty:
            break
        pair.step(source)
    assert pair.driver.outstanding <= rig.size
    while pair.held:
        pair.device.push(pair.held.pop())
    assert pair.device.outstanding == 0


def seeds() -> list[bytes]:
    """A chain there and back, in each kind of ring; then with the used ring overwritten."""
    there_and_back = bytes([0, 0x21, 9, 9, 1, 2, 3, 0, 4])
    intruded = there_and_back[:-1] + bytes([5, 0x42, 0, 2, 9, 0, 4])
    return [bytes([features, 3]) + path * 3 for features in range(16) for path in (there_and_back, intruded)]


if __name__ == "__main__":
    fuzz(target, seeds())
