"""Two threads share a ring as fast as they can, sleep and wake each other, and check all that passes.

The driver numbers its chains and writes the number into their buffers; the device expects the next number
in each chain it takes, and answers into the writable buffers; the driver expects each chain back once, with
that answer, and with IN_ORDER in turn. Both sleep on eventfds whenever there is nothing to do, sometimes
after a short spin, so that all the ways of just missing each other are met.
"""

import os
import threading
from dataclasses import dataclass

import cython
from cython.cimports.cpython.mem import PyMem_Calloc, PyMem_Free
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.virtio.memory.atomic import ACQUIRE, RELEASE, load_int, store_int
from cython.cimports.virtio.memory.table import GuestMemory, translate
from cython.cimports.virtio.virtqueue.queue import Chain, Completion

from virtio.testing.rig import Rig, shared_memory

__all__ = ["Stress", "StressReport", "run"]

TROUBLES = ("", "hang", "lost", "doubled", "reordered", "content", "shape", "fault")
FLAWS = {None: 0, "corrupt": 1, "blind sleep": 2}


@dataclass(frozen=True)
class StressReport:
    """What was moved, and what went wrong: ``trouble`` is empty if nothing did."""

    trouble: str
    detail: int
    chains: int
    descriptors: int
    kicks: int
    calls: int
    driver_sleeps: int
    device_sleeps: int


def run(rig: Rig, descriptors: int, *, flaw: str | None = None, watchdog: float = 20.0) -> StressReport:
    """Move ``descriptors`` buffers through a new ring laid out as ``rig`` says.

    ``rig.buffer_bytes`` must be at least 128 for each of the ring's descriptors. ``flaw`` breaks something on
    purpose: "corrupt" or "blind sleep". A side that sleeps for ``watchdog`` seconds is taken to hang.
    """
    memory = shared_memory(rig.total)
    kick_fd, call_fd = os.eventfd(0), os.eventfd(0)
    try:
        stress = Stress(rig, memory, kick_fd, call_fd, descriptors, FLAWS[flaw], round(watchdog * 1000))
        threads = [threading.Thread(target=side) for side in (stress.drive, stress.serve)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return stress.report()
    finally:
        os.close(kick_fd)
        os.close(call_fd)


class Stress:
    """A ring with both its ends. ``drive`` and ``serve`` are to run in a thread each."""

    def __init__(
        self, rig: Rig, memory: GuestMemory, kick_fd: int, call_fd: int, goal: int, flaw: int, watchdog: int
    ) -> None:
        slot: uint32_t
        run: uint64_t = 0
        if rig.buffer_bytes < SLOT * rig.size:
            raise ValueError(f"{rig.size} descriptors need {SLOT * rig.size} bytes for buffers")
        self.driver, self.device = rig.driver(memory), rig.device(memory)
        self.buffers = rig.buffers
        self.host = translate(cython.address(memory.table), self.buffers, SLOT, cython.address(run))
        self.kick_fd, self.call_fd = kick_fd, call_fd
        self.goal, self.flaw, self.watchdog = goal, flaw, watchdog
        self.pending = cython.cast(cython.pointer[uint64_t], PyMem_Calloc(rig.size, 8))
        self.free_slots = cython.cast(cython.pointer[uint32_t], PyMem_Calloc(rig.size, 4))
        if self.pending == cython.NULL or self.free_slots == cython.NULL:
            raise MemoryError
        self.free_count = rig.size
        for slot in range(self.free_count):
            self.free_slots[slot] = slot

    def __dealloc__(self) -> None:
        PyMem_Free(self.pending)
        PyMem_Free(self.free_slots)

    def drive(self) -> None:
        """The driver's thread: returns when all is moved or something went wrong."""
        with cython.nogil:
            self._drive()

    def serve(self) -> None:
        """The device's thread."""
        with cython.nogil:
            self._serve()

    def report(self) -> StressReport:
        """What happened. To be called when both threads are back."""
        return StressReport(
            trouble=TROUBLES[self.trouble],
            detail=self.detail,
            chains=self.reaped,
            descriptors=self.descriptors,
            kicks=self.kicks,
            calls=self.calls,
            driver_sleeps=self.driver_sleeps,
            device_sleeps=self.device_sleeps,
        )

    def _fail(self, trouble: cython.int, detail: uint64_t) -> cython.void:
        """Remember what went wrong first, and let both sides go."""
        if load_int(cython.address(self.trouble), ACQUIRE) == NONE:
            self.detail = detail
            store_int(cython.address(self.trouble), trouble, RELEASE)
        store_int(cython.address(self.finished), True, RELEASE)
        eventfd_write(self.kick_fd, 1)
        eventfd_write(self.call_fd, 1)

    def _sleep(self, fd: cython.int) -> cython.bint:
        """Until the other side wakes us; false if it does not."""
        waiting: pollfd
        count: uint64_t = 0
        waiting.fd = fd
        waiting.events = POLLIN
        if poll(cython.address(waiting), 1, self.watchdog) != 1:
            self._fail(HANG, self.added if fd == self.call_fd else self.taken)
            return False
        eventfd_read(fd, cython.address(count))
        return True

    # -- the driver

    def _drive(self) -> cython.void:
        self.driver.disable_notifications()
        while load_int(cython.address(self.trouble), ACQUIRE) == NONE:
            progress: cython.int = self._offer() + self._collect()
            if progress != 0:
                continue
            if self.descriptors >= self.goal and self.driver.outstanding == 0:
                store_int(cython.address(self.finished), True, RELEASE)
                eventfd_write(self.kick_fd, 1)
                return
            spin(self.added % 512)
            if not self.driver.enable_notifications():
                self.driver_sleeps += 1
                if not self._sleep(self.call_fd):
                    return
            self.driver.disable_notifications()

    def _offer(self) -> cython.int:
        """Add chains while there is room, at most a batch. How many."""
        i: cython.int
        count: cython.int = 0
        while count < BATCH and self.free_count != 0 and self.descriptors < self.goal:
            number: uint64_t = self.added
            buffers: cython.int = buffers_of(number)
            readable: cython.int = readable_of(number)
            slot: uint32_t = self.free_slots[self.free_count - 1]
            offset: uint64_t = cython.cast(uint64_t, slot) * SLOT
            for i in range(buffers):
                place: uint64_t = offset + i * STRIDE
                if i >= readable:
                    place = offset + WRITABLE + (i - readable) * STRIDE
                self.chain[i].address = self.buffers + place
                self.chain[i].length = 8
                store_number(self.host + place, number + i if i < readable else 0)
            if self.flaw == CORRUPT and number == 1000:
                store_number(self.host + offset, number + 1)
            if self.driver.add(self.chain, readable, buffers - readable, slot) != 0:
                break
            self.free_count -= 1
            self.pending[slot] = number + 1
            self.added += 1
            self.descriptors += buffers
            count += 1
        if count != 0 and self.driver.publish():
            self.kicks += 1
            eventfd_write(self.kick_fd, 1)
        return count

    def _collect(self) -> cython.int:
        """Reap a batch and check it. How many."""
        i: cython.int
        count: cython.int = self.driver.reap(self.done, BATCH)
        if count < 0:
            self._fail(FAULT, cython.cast(uint64_t, -count))
            return 0
        for i in range(count):
            self._check_reply(cython.address(self.done[i]))
        return count

    def _check_reply(self, completion: cython.pointer[cython.const[Completion]]) -> cython.void:
        """Each chain comes back once, with its answer, and with IN_ORDER in turn."""
        i: cython.int
        slot: uint64_t = completion.token
        if slot >= self.driver.size or self.pending[slot] == 0:
            self._fail(DOUBLED, slot)
            return
        number: uint64_t = self.pending[slot] - 1
        writable: cython.int = buffers_of(number) - readable_of(number)
        if self.driver.in_order and number != self.reaped:
            self._fail(REORDERED, number)
        if completion.written != cython.cast(uint32_t, 8 * writable):
            self._fail(SHAPE, number)
        for i in range(writable):
            if load_number(self.host + slot * SLOT + WRITABLE + i * STRIDE) != ~(number + i):
                self._fail(CONTENT, number)
        self.pending[slot] = 0
        self.free_slots[self.free_count] = cython.cast(uint32_t, slot)
        self.free_count += 1
        self.reaped += 1

    # -- the device

    def _serve(self) -> cython.void:
        self.device.disable_notifications()
        while load_int(cython.address(self.trouble), ACQUIRE) == NONE:
            count: cython.int = self.device.take(self.batch, BATCH)
            if count < 0:
                self._fail(FAULT, cython.cast(uint64_t, -count))
                return
            if count > 0:
                self._answer(self.batch, count)
                continue
            if self.late_count != 0:
                self._answer(self.batch, 0)
                continue
            if load_int(cython.address(self.finished), ACQUIRE):
                return
            spin(self.taken % 512)
            if self.flaw == BLIND_SLEEP:
                spin(2000)
                self.device.enable_notifications()
            elif self.device.enable_notifications():
                self.device.disable_notifications()
                continue
            self.device_sleeps += 1
            if not self._sleep(self.kick_fd):
                return
            self.device.disable_notifications()

    def _answer(self, chains: cython.pointer[cython.pointer[Chain]], count: cython.int) -> cython.void:
        """Check a batch and give it back: backwards, some of it later, what was late last."""
        i: cython.int
        held: cython.int = self.late_count
        for i in range(count):
            self._check_request(chains[i])
        keep: cython.int = cython.cast(cython.int, self.taken % (LATE + 1)) if count > LATE else 0
        for i in range(count - 1, keep - 1, -1):
            self.device.give(chains[i], cython.cast(uint32_t, chains[i].writable_length))
        for i in range(held):
            self.device.give(self.late[i], cython.cast(uint32_t, self.late[i].writable_length))
        for i in range(keep):
            self.late[i] = chains[i]
        self.late_count = keep
        self._publish()

    def _publish(self) -> cython.void:
        if self.device.publish():
            self.calls += 1
            eventfd_write(self.call_fd, 1)

    def _check_request(self, chain: cython.pointer[Chain]) -> cython.void:
        """Chains arrive in the order of their numbers, whole; then write the answer."""
        i: uint32_t
        number: uint64_t = self.taken
        self.taken += 1
        readable: uint32_t = readable_of(number)
        writable: uint32_t = buffers_of(number) - readable
        if chain.readable != readable or chain.writable != writable:
            self._fail(SHAPE, number)
            return
        if load_number(cython.cast(cython.p_char, chain.segments[0].iov_base)) != number:
            self._fail(LOST, number)
            return
        for i in range(1, readable):
            if load_number(cython.cast(cython.p_char, chain.segments[i].iov_base)) != number + i:
                self._fail(CONTENT, number)
        for i in range(writable):
            place = cython.cast(cython.p_char, chain.segments[readable + i].iov_base)
            store_number(place, ~(number + i))
