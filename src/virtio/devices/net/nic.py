"""What the queues of one NIC share, and the way in for frames from the world.

::

    guest sends     transmitq --Transmitter--> Link.put
    world sends     Nic.put -> steering -> filter -> Intake of a receiveq, on the sender's thread

The control plane sets what may change under way; none of it stops the queues.
"""

from __future__ import annotations

import sys

import cython
from cython.cimports.libc.stdint import uint16_t, uint32_t
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.virtio.device.worker import signal_fd
from cython.cimports.virtio.devices.net.filter import ReceiveFilter
from cython.cimports.virtio.devices.net.intake import Intake
from cython.cimports.virtio.devices.net.lead import give_lead
from cython.cimports.virtio.devices.net.steering import Steering, milliseconds
from cython.cimports.virtio.devices.net.terms import (
    DOWN,
    DROPS,
    FILTERED,
    FULL,
    HASH_HEADER,
    PLAIN_HEADER,
    SHORT_HEADER,
    SHORTEST_FRAME,
    Counters,
    count_drops,
)
from cython.cimports.virtio.memory import atomic
from cython.cimports.virtio.network.frame import BURST, LONGEST_FRAME
from cython.cimports.virtio.network.offload import copy_out

from virtio.devices.net.steering import FlowSteering
from virtio.errors import UsageError
from virtio.network.link import Link
from virtio.network.offload import takes_of
from virtio.spec import net as spec
from virtio.spec.features import VERSION_1, mask

__all__ = ["Nic"]

REASONS = ("runt", "giant", "header", "offload", "filtered", "down", "full")  # as enum Drop
GUEST_OFFLOADS = mask(
    spec.F_GUEST_CSUM,
    spec.F_GUEST_TSO4,
    spec.F_GUEST_TSO6,
    spec.F_GUEST_ECN,
    spec.F_GUEST_UFO,
    spec.F_GUEST_USO4,
    spec.F_GUEST_USO6,
)


class Nic:
    """What the queues of one NIC share; ``link`` is where its frames go, ``pairs`` how many there can be.

    Raises UsageError for a number of pairs that cannot be.
    """

    def __cinit__(self):
        attributes: pthread_rwlockattr_t
        pthread_rwlockattr_init(cython.address(attributes))
        # Senders come without a break: who changes something must not wait for a moment without any.
        pthread_rwlockattr_setkind_np(
            cython.address(attributes), PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP
        )
        pthread_rwlock_init(cython.address(self.lock), cython.address(attributes))
        pthread_rwlockattr_destroy(cython.address(attributes))

    def __init__(self, link: Link, pairs: int = 1) -> None:
        if not 1 <= pairs <= MOST_PAIRS:
            raise UsageError(f"a NIC has 1 to {MOST_PAIRS} pairs of queues, not {pairs}")
        if self.intakes != cython.NULL:
            raise TypeError("a NIC is made once")
        number: cython.size_t = pairs
        self.link = link
        self.most_pairs = pairs
        self.pairs = 1
        self.up = 1
        self.intakes = cython.cast(
            cython.pointer[cython.p_void], calloc(number, cython.sizeof(cython.p_void))
        )
        self.received = cython.cast(cython.pointer[Counters], calloc(number, cython.sizeof(Counters)))
        self.sent = cython.cast(cython.pointer[Counters], calloc(number, cython.sizeof(Counters)))
        self.leads = cython.cast(cython.p_int, calloc(number, cython.sizeof(cython.int)))
        if (
            self.intakes == cython.NULL
            or self.received == cython.NULL
            or self.sent == cython.NULL
            or self.leads == cython.NULL
        ):
            raise MemoryError
        self.set_features(1 << VERSION_1)

    def __dealloc__(self):
        free(self.intakes)
        free(self.leads)
        free(self.received)
        free(self.sent)
        pthread_rwlock_destroy(cython.address(self.lock))

    # What the control plane calls.

    def set_features(self, features: int, *, big_endian: bool = False) -> None:
        """Take over what was negotiated, before the queues start.

        ``big_endian`` is the byte order of a driver on the legacy interface; others are little-endian.
        Offloads, steering and filter, the number of pairs and the MTU are as after a reset.
        """
        legacy = not features >> VERSION_1 & 1
        self.terms.mergeable = bool(features & mask(spec.F_MRG_RXBUF))
        if features & mask(spec.F_HASH_REPORT):
            self.terms.header = HASH_HEADER
        else:
            self.terms.header = SHORT_HEADER if legacy and not self.terms.mergeable else PLAIN_HEADER
        self.terms.swap = (legacy and big_endian) != (sys.byteorder == "big")
        # num_buffers is 1 there, in the third word's latter half.
        self.terms.last_word = int.from_bytes(
            b"\0\0\0\1" if legacy and big_endian else b"\0\0\1\0", sys.byteorder
        )
        self.terms.joins = bool(features & mask(spec.F_RSC_EXT))
        self.terms.sends = takes_of(features, host=True)
        self.set_steering(None)
        self.set_filter(None)
        self.set_pairs(1)
        self.set_mtu(None)
        self.set_offloads(features & GUEST_OFFLOADS)

    def set_offloads(self, offloads: int) -> None:
        """What the driver takes unfinished from now on, as feature bits GUEST_* (CTRL_GUEST_OFFLOADS_SET).

        With RSC_EXT a long frame's header says of how many TCP segments it consists: there is no way to say
        anything of another protocol's, so they are cut for such a driver.
        """
        if self.terms.joins:
            offloads &= ~mask(spec.F_GUEST_UFO, spec.F_GUEST_USO4, spec.F_GUEST_USO6)
        atomic.store_int(cython.address(self.terms.takes), takes_of(offloads), atomic.RELAXED)
        self.link.set_guest_offloads(offloads & GUEST_OFFLOADS)

    def set_mtu(self, mtu: int | None) -> None:
        """The largest payload of a frame in bytes, from now on, in both directions; None: any.

        Longer frames are dropped and counted, but for those that are still to be segmented.
        """
        longest: uint32_t = LONGEST_FRAME if mtu is None else min(mtu + SHORTEST_FRAME, LONGEST_FRAME)
        atomic.store_u32(cython.address(self.terms.longest), longest, atomic.RELAXED)

    def set_pairs(self, pairs: int) -> None:
        """How many pairs are in use (CTRL_MQ_VQ_PAIRS_SET). Raises UsageError for more than there are."""
        if not 1 <= pairs <= self.most_pairs:
            raise UsageError(f"1 to {self.most_pairs} pairs can be used, not {pairs}")
        pthread_rwlock_wrlock(cython.address(self.lock))
        self.pairs = pairs
        pthread_rwlock_unlock(cython.address(self.lock))

    def set_filter(self, filter: ReceiveFilter | None) -> None:
        """What to let through to the driver; None: everything. No thread uses the former one any more."""
        former = self.filter  # noqa: F841 -- kept until nobody can be in it
        pthread_rwlock_wrlock(cython.address(self.lock))
        self.filter = filter
        pthread_rwlock_unlock(cython.address(self.lock))

    def set_steering(self, steering: Steering | None) -> None:
        """What chooses the receive queue; None: the sender's queue does."""
        former = self.steering  # noqa: F841 -- kept until nobody can be in it
        pthread_rwlock_wrlock(cython.address(self.lock))
        self.steering = steering
        pthread_rwlock_unlock(cython.address(self.lock))
        learns: cython.int = isinstance(steering, FlowSteering)
        atomic.store_int(cython.address(self.learns), learns, atomic.RELAXED)

    def set_link_up(self, up: bool) -> None:
        """Whether frames pass, in both directions; those that do not are dropped and counted."""
        atomic.store_int(cython.address(self.up), 1 if up else 0, atomic.RELAXED)

    def connect(self) -> None:
        """Have the link deliver here. Raises UsageError if it is another NIC's."""
        self.keeps = self.link.receive_fd(0) >= 0
        self.link.connect(self, self.most_pairs)

    def disconnect(self) -> None:
        """Have the link deliver nothing more."""
        self.link.disconnect()

    @property
    def header_length(self) -> int:
        """Bytes before each frame."""
        return self.terms.header

    def stats(self) -> dict[str, list[dict[str, int]]]:
        """Counters of each queue, by pair, under ``receive`` and ``transmit`` as the driver sees them.

        ``frames`` and ``bytes`` handed on, ``partial`` ones among them whose checksum was not computed,
        ``segmented`` ones with a GSO type and their ``segmented_bytes``, ``valid`` ones whose checksum
        somebody has found to be right, ``joined`` ones made of several that came and their
        ``joined_bytes``, and those dropped, by reason. Of what the driver ``sent``:
        ``unsummed`` frames, whose checksum it left to others, and those ``cut`` into how many ``pieces``.
        """
        count: cython.int = self.most_pairs
        receive = [_as_dict(cython.address(self.received[i])) for i in range(count)]
        transmit = [_as_dict(cython.address(self.sent[i])) for i in range(count)]
        return {"receive": receive, "transmit": transmit}

    # What the queues call.

    def admit(self, pair, intake):
        pthread_rwlock_wrlock(cython.address(self.lock))
        self.intakes[pair] = intake
        pthread_rwlock_unlock(cython.address(self.lock))

    def give_back(self, pair):
        give_lead(cython.address(self.leads[pair]))
        pthread_rwlock_rdlock(cython.address(self.lock))
        if self.intakes[pair] != cython.NULL:
            signal_fd(cython.cast(Intake, self.intakes[pair]).wake_fd)
        pthread_rwlock_unlock(cython.address(self.lock))

    def learn(self, pair, frames, count):
        i: cython.int
        time: uint32_t = milliseconds()
        pthread_rwlock_rdlock(cython.address(self.lock))
        if self.steering is not None:
            for i in range(count):
                self.steering.sent(pair, frames + i, time)
        pthread_rwlock_unlock(cython.address(self.lock))

    # What the world calls.

    def put(self, queue, frames, count):
        taken: cython.int
        pair: cython.int
        pthread_rwlock_rdlock(cython.address(self.lock))
        pair = cython.cast(cython.int, cython.cast(cython.uint, queue) % cython.cast(cython.uint, self.pairs))
        if not atomic.load_int(cython.address(self.up), atomic.RELAXED):
            count_drops(cython.address(self.received[pair]), DOWN, count)
            taken = count
        elif self.steering is None:
            taken = self.hand_over(pair, frames, count, cython.NULL, cython.NULL)
        else:
            taken = self.steer(frames, count)
        pthread_rwlock_unlock(cython.address(self.lock))
        return taken

    def hand_over(self, pair, frames, count, hashes, reports):
        """Give frames to one receiver, those that the filter admits. Number taken."""
        if self.intakes[pair] == cython.NULL:
            return 0
        if self.filter is not None:
            return self.screen(pair, frames, count, hashes, reports)
        return cython.cast(Intake, self.intakes[pair]).deliver(frames, count, hashes, reports)

    def screen(self, pair, frames, count, hashes, reports):
        """Give the admitted frames, in runs as long as possible."""
        start: cython.int = 0
        end: cython.int
        taken: cython.int
        while start < count:
            end = start
            while end < count and self.admits(frames + end):
                end += 1
            if end > start:
                taken = cython.cast(Intake, self.intakes[pair]).deliver(
                    frames + start,
                    end - start,
                    cython.NULL if hashes == cython.NULL else hashes + start,
                    cython.NULL if reports == cython.NULL else reports + start,
                )
                if taken < end - start:
                    return start + taken
            if end < count:
                count_drops(cython.address(self.received[pair]), FILTERED, 1)
            start = end + 1
        return count

    def admits(self, frame):
        head: cython.char[HEAD_BYTES]
        length: uint32_t = min(frame.length, HEAD_BYTES)
        if frame.segments[0].iov_len >= length:
            return self.filter.admits(cython.cast(cython.p_char, frame.segments[0].iov_base), length)
        copy_out(frame, 0, head, length)
        return self.filter.admits(head, length)

    def steer(self, frames, count):
        """Give each frame to the receiver that is chosen for it. Number taken.

        What a full one cannot take is dropped, or left with a link that keeps it: dropping costs a stream
        more than a short wait costs the other receivers.
        """
        done: cython.int = 0
        part: cython.int
        taken: cython.int
        while done < count:
            part = min(count - done, BURST)
            taken = self.steer_burst(frames + done, part)
            done += taken
            if taken < part:
                break
        return done

    def steer_burst(self, frames, count):
        hashes = cython.declare(uint32_t[BURST])
        reports = cython.declare(uint16_t[BURST])
        pairs = cython.declare(cython.int[BURST])
        start: cython.int = 0
        end: cython.int
        taken: cython.int
        time: uint32_t = milliseconds()
        for end in range(count):
            pairs[end] = self.steering.choose(
                frames + end, time, cython.address(hashes[end]), cython.address(reports[end])
            )
        while start < count:
            end = start + 1
            while end < count and pairs[end] == pairs[start]:
                end += 1
            taken = 0
            if 0 <= pairs[start] < self.most_pairs:
                taken = self.hand_over(
                    pairs[start],
                    frames + start,
                    end - start,
                    cython.address(hashes[start]),
                    cython.address(reports[start]),
                )
                if taken < end - start:
                    if self.keeps and not atomic.load_int(cython.address(self.hurried), atomic.RELAXED):
                        return start + taken
                    count_drops(cython.address(self.received[pairs[start]]), FULL, end - start - taken)
            else:
                count_drops(cython.address(self.received[0]), FILTERED, end - start)
            start = end
        return count


@cython.cfunc
def _as_dict(counters: cython.pointer[Counters]) -> dict:
    i: cython.int
    named = {
        "frames": atomic.load_u64(cython.address(counters.frames), atomic.RELAXED),
        "bytes": atomic.load_u64(cython.address(counters.bytes), atomic.RELAXED),
        "partial": atomic.load_u64(cython.address(counters.partial), atomic.RELAXED),
        "segmented": atomic.load_u64(cython.address(counters.segmented), atomic.RELAXED),
        "segmented_bytes": atomic.load_u64(cython.address(counters.segmented_bytes), atomic.RELAXED),
        "valid": atomic.load_u64(cython.address(counters.valid), atomic.RELAXED),
        "joined": atomic.load_u64(cython.address(counters.joined), atomic.RELAXED),
        "joined_bytes": atomic.load_u64(cython.address(counters.joined_bytes), atomic.RELAXED),
        "sent": atomic.load_u64(cython.address(counters.sent), atomic.RELAXED),
        "unsummed": atomic.load_u64(cython.address(counters.unsummed), atomic.RELAXED),
        "cut": atomic.load_u64(cython.address(counters.cut), atomic.RELAXED),
        "cut_bytes": atomic.load_u64(cython.address(counters.cut_bytes), atomic.RELAXED),
        "pieces": atomic.load_u64(cython.address(counters.pieces), atomic.RELAXED),
        "piece_bytes": atomic.load_u64(cython.address(counters.piece_bytes), atomic.RELAXED),
    }
    for i in range(DROPS):
        named[REASONS[i]] = atomic.load_u64(cython.address(counters.dropped[i]), atomic.RELAXED)
    return named
