"""``flood:``: puts frames into its guest as fast as that takes them; what comes back is counted."""

from __future__ import annotations

import threading

import cython
from cython.cimports.libc.stdint import int64_t
from cython.cimports.libc.string import memset
from cython.cimports.posix.time import nanosleep, timespec
from cython.cimports.virtio.memory import atomic
from cython.cimports.virtio.network.frame import BURST, LONGEST_FRAME, Frame
from cython.cimports.virtio.network.link import Sink
from cython.cimports.virtio.network.null import NullLink

from virtio.errors import UsageError

__all__ = ["FloodLink"]

# An IPv4 UDP datagram between addresses for benchmarks (RFC 2544, appendix C.2.2), discard port.
ETHERNET = bytes.fromhex("020000000001020000000002 0800")
SHORTEST = 42  # bytes: Ethernet, IPv4 and UDP headers


class FloodLink(NullLink):
    """Puts bursts of ``burst`` UDP frames of ``size`` bytes into the guest, from a thread of its own.

    The thread lives while a NIC is connected. Where the guest has no room it looks again for a while, then
    sleeps, longer each time, up to a millisecond. Raises UsageError for sizes that cannot be.
    """

    def __init__(self, size: int = 64, burst: int = 32) -> None:
        if not SHORTEST <= size <= LONGEST_FRAME:
            raise UsageError(f"a frame to flood with has {SHORTEST} to {LONGEST_FRAME} bytes, not {size}")
        if not 1 <= burst <= BURST:
            raise UsageError(f"a burst has 1 to {BURST} frames, not {burst}")
        NullLink.__init__(self)
        i: cython.int
        self.size = size
        self.burst = burst
        self.data = datagram(size)
        self.place.iov_base = cython.cast(cython.p_char, self.data)
        self.place.iov_len = size
        memset(self.ready, 0, BURST * cython.sizeof(Frame))
        for i in range(BURST):
            self.ready[i].segments = cython.address(self.place)
            self.ready[i].count = 1
            self.ready[i].length = size

    @property
    def name(self) -> str:
        """Its URL."""
        return f"flood:?size={self.size}&burst={self.burst}"

    def connect(self, guest: Sink, queues: int = 1) -> None:
        """Flood ``guest`` from now on. UsageError if another one is connected."""
        NullLink.connect(self, guest, queues)
        self.stopping = 0
        self.thread = threading.Thread(target=self._run, args=(guest,), name="virtio-flood", daemon=True)
        self.thread.start()

    def disconnect(self) -> None:
        """Stop, and wait until nothing more comes."""
        atomic.store_int(cython.address(self.stopping), 1, atomic.SEQ_CST)
        if self.thread is not None:
            self.thread.join()
            self.thread = None
        NullLink.disconnect(self)

    def close(self) -> None:
        """Stop."""
        self.disconnect()

    def stats(self) -> dict[str, int]:
        """``flooded`` frames the guest took, ``refusals`` for want of room; ``frames``, ``bytes`` it sent."""
        return {**NullLink.stats(self), "flooded": self.flooded, "refusals": self.refusals}

    def _run(self, guest: Sink) -> None:
        with cython.nogil:
            self.flood(guest)

    def flood(self, guest):
        taken: cython.int
        idle: cython.int = 0
        _: cython.int
        nap: int64_t = NAP_NS
        while not atomic.load_int(cython.address(self.stopping), atomic.RELAXED):
            taken = guest.put(0, self.ready, self.burst)
            if taken > 0:
                atomic.add_u64(cython.address(self.flooded), taken, atomic.RELAXED)
                idle = 0
                nap = NAP_NS
            if taken == self.burst:
                continue
            atomic.add_u64(cython.address(self.refusals), 1, atomic.RELAXED)
            idle += 1
            if idle < PATIENCE:
                # Room for one is no room: each look takes the ring's lines away from who makes some.
                for _ in range(PAUSES):
                    atomic.cpu_pause()
            else:
                sleep_for(nap)
                nap = min(2 * nap, LONGEST_NAP_NS)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def sleep_for(nanoseconds: int64_t) -> cython.void:
    time = cython.declare(timespec)
    time.tv_sec = 0
    time.tv_nsec = nanoseconds
    nanosleep(cython.address(time), cython.NULL)


def datagram(size: int) -> bytes:
    """An Ethernet frame of ``size`` bytes with a UDP datagram without a checksum."""
    total = size - len(ETHERNET)
    head = bytearray.fromhex("4500 0000 0000 4000 4011 0000 c6120001 c6120002")
    head[2:4] = total.to_bytes(2, "big") if total < 1 << 16 else b"\xff\xff"
    sum = 0
    for at in range(0, 20, 2):
        sum += int.from_bytes(head[at : at + 2], "big")
    sum = (sum & 0xFFFF) + (sum >> 16)
    head[10:12] = (~((sum & 0xFFFF) + (sum >> 16)) & 0xFFFF).to_bytes(2, "big")
    udp = (9).to_bytes(2, "big") * 2 + min(total - 20, 0xFFFF).to_bytes(2, "big") + bytes(2)
    return (ETHERNET + bytes(head) + udp).ljust(size, b"\0")
