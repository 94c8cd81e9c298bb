"""Links that are file descriptors: bursts out of them and into them, straight from and to guest memory."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import cython
from cython.cimports.libc.errno import (
    EAGAIN,
    ECONNREFUSED,
    ECONNRESET,
    EINTR,
    EIO,
    EMSGSIZE,
    ENETDOWN,
    ENETUNREACH,
    ENOBUFS,
    ENODEV,
    ENOENT,
    ENOSPC,
    ENOTCONN,
    ENXIO,
    EPIPE,
    EPROTOTYPE,
    errno,
)
from cython.cimports.libc.stdint import int64_t, uint64_t
from cython.cimports.libc.stdlib import calloc, free, malloc
from cython.cimports.libc.string import memset
from cython.cimports.posix.uio import iovec, writev
from cython.cimports.posix.unistd import read
from cython.cimports.virtio.memory import atomic

from virtio.errors import NetworkError

__all__ = ["FdLink"]

log = logging.getLogger("virtio.network")


class FdLink:
    """A link with a file descriptor for each queue pair; one `read` and one `writev` for each frame.

    ``header_size`` is 12 for descriptors that carry a virtio_net_hdr before every frame, else 0. Descriptors
    are non-blocking, and the link's from now on. Subclasses give them with `set_fd`, and tell of their
    carrier with `set_carrier`.
    """

    def __cinit__(self) -> None:
        self.lanes = cython.NULL
        self.lane_count = 0

    def __init__(self, lanes: int = 1, *, header_size: int = 0) -> None:
        i: cython.int
        Link.__init__(self)
        if self.lanes is not cython.NULL:
            raise RuntimeError("made twice")
        if header_size not in (0, HEADER):
            raise ValueError("a header has 12 bytes")
        self.lanes = cython.cast(cython.pointer[Lane], calloc(lanes, cython.sizeof(Lane)))
        if self.lanes is cython.NULL:
            raise MemoryError
        self.lane_count = lanes
        self.header_size = header_size
        for i in range(lanes):
            self.lanes[i].fd = self.lanes[i].watch = -1
        for i in range(lanes):
            self.lanes[i].watch = epoll_create1(EPOLL_CLOEXEC)
            self.lanes[i].arena = cython.cast(cython.p_char, malloc(ARENA))
            if self.lanes[i].watch < 0 or self.lanes[i].arena is cython.NULL:
                raise NetworkError(f"no descriptors or memory for a link: {os.strerror(errno)}")

    def __dealloc__(self) -> None:
        i: cython.int
        for i in range(self.lane_count):
            free(self.lanes[i].arena)
        free(self.lanes)

    def set_fd(self, queue: int, fd: int) -> None:
        """Use ``fd`` for this queue from now on, -1 for none. The former one is the caller's again."""
        event = cython.declare(epoll_event)
        if not 0 <= queue < self.lane_count:
            raise IndexError(queue)
        lane: cython.pointer[Lane] = cython.address(self.lanes[queue])
        if lane.fd >= 0:
            epoll_ctl(lane.watch, EPOLL_CTL_DEL, lane.fd, cython.NULL)
        lane.fd = fd
        if fd >= 0:
            memset(cython.address(event), 0, cython.sizeof(epoll_event))
            event.events = EPOLLIN
            if epoll_ctl(lane.watch, EPOLL_CTL_ADD, fd, cython.address(event)) != 0:
                raise NetworkError(f"{self.name}: cannot wait for frames: {os.strerror(errno)}")

    def fd(self, queue: int) -> int:
        """The descriptor that a queue uses; -1: none."""
        return self.lanes[queue].fd if 0 <= queue < self.lane_count else -1

    def set_carrier(self, up: bool) -> None:
        """Note whether there is a carrier, and tell whoever wants to know if that is news."""
        wanted: cython.int = bool(up)
        if self.carrier != wanted:
            atomic.store_int(cython.address(self.carrier), wanted, atomic.RELEASE)
            tell = self.tell
            if tell is not None:
                tell(bool(up))

    def on_carrier(self, tell: Callable[[bool], None] | None) -> None:
        """Have ``tell`` called whenever `up` changes."""
        self.tell = tell

    @property
    def up(self) -> bool:
        """Whether there is a carrier."""
        return bool(atomic.load_int(cython.address(self.carrier), atomic.ACQUIRE))

    def receive_fd(self, queue: int) -> int:
        """Readable when a frame came for this queue; it stays the same as long as the link lives."""
        return self.lanes[queue].watch if 0 <= queue < self.lane_count else -1

    def put(self, queue, frames, count):
        i: cython.int
        result: cython.int
        taken: cython.int = 0
        good: uint64_t = 0
        total: uint64_t = 0
        fd: cython.int = self.lanes[queue % self.lane_count].fd
        for i in range(count):
            result = self.send(fd, cython.address(frames[i]))
            if result == LOSS_FULL:
                atomic.add_u64(cython.address(self.full), 1, atomic.RELAXED)
                break
            taken += 1
            if result == LOSS_NONE:
                good += 1
                total += frames[i].length
        atomic.add_u64(cython.address(self.sent), good, atomic.RELAXED)
        atomic.add_u64(cython.address(self.sent_bytes), total, atomic.RELAXED)
        return taken

    def send(self, fd, frame):
        i: cython.int
        parts: iovec[64]
        header: cython.char[12]
        skip: cython.int = 1 if self.header_size else 0
        if fd < 0:
            return self.judge(ENOTCONN)
        if frame.length > LONGEST_FRAME:
            return self.judge(EMSGSIZE)
        if frame.count + skip > PARTS:
            return self.send_long(fd, frame)
        if skip:
            memset(header, 0, HEADER)
            memcpy(header, cython.address(frame.header), cython.sizeof(NetHeader))
            parts[0].iov_base = header
            parts[0].iov_len = HEADER
        for i in range(frame.count):
            parts[skip + i] = frame.segments[i]
        done: int64_t = self.emit(fd, parts, frame.count + skip)
        return LOSS_NONE if done >= 0 else self.judge(-done)

    def send_long(self, fd, frame):
        """Send a frame of very many segments by way of a copy."""
        body: cython.char[65562]
        part = cython.declare(iovec)
        memset(body, 0, HEADER)
        memcpy(body, cython.address(frame.header), cython.sizeof(NetHeader))
        flatten(frame, cython.cast(cython.p_char, body) + HEADER)
        part.iov_base = cython.cast(cython.p_char, body) + (HEADER - self.header_size)
        part.iov_len = self.header_size + frame.length
        done: int64_t = self.emit(fd, cython.address(part), 1)
        return LOSS_NONE if done >= 0 else self.judge(-done)

    def emit(self, fd, parts, count):
        done: int64_t
        while True:
            done = writev(fd, parts, count)
            if done >= 0:
                return done
            if errno != EINTR:
                return -errno

    def judge(self, error):
        """Count a frame that did not go out, unless there is only no room now."""
        if error in (EAGAIN, ENOBUFS):
            return LOSS_FULL
        self.last_error = error
        if error in (EIO, ENETDOWN, ENXIO, ENODEV, EBADFD):
            atomic.add_u64(cython.address(self.down), 1, atomic.RELAXED)
            return LOSS_DOWN
        if error in (ECONNREFUSED, ECONNRESET, ENOENT, ENOTCONN, EPIPE, ENETUNREACH, EPROTOTYPE):
            atomic.add_u64(cython.address(self.unreachable), 1, atomic.RELAXED)
            return LOSS_UNREACHABLE
        atomic.add_u64(cython.address(self.refused), 1, atomic.RELAXED)
        return LOSS_REFUSED

    def receive(self, queue, budget):
        offered: cython.int
        taken: cython.int
        moved: cython.int = 0
        if self.guest is None or queue < 0 or queue >= self.lane_count:
            return -EAGAIN
        lane: cython.pointer[Lane] = cython.address(self.lanes[queue])
        while moved < budget:
            if lane.first == lane.count:
                lane.first = lane.count = 0
                offered = self.fill(lane, budget - moved)
                if offered <= 0:
                    return moved if moved else -EAGAIN
                lane.count = offered
            offered = min(lane.count - lane.first, budget - moved)
            taken = self.guest.put(queue, cython.address(lane.frames[lane.first]), offered)
            lane.first += taken
            moved += taken
            if taken < offered:
                return moved if moved else -ENOSPC
            if lane.dry and lane.first == lane.count:
                break
        return moved

    def fill(self, lane, wanted):
        count: cython.int = 0
        used: cython.size_t = 0
        length: int64_t = 0
        reads: cython.int = 0
        wanted = min(wanted, BURST)
        # Not for ever, whatever comes that is no frame.
        while count < wanted and used + HEADER + LONGEST_FRAME < ARENA and reads < 2 * BURST:
            reads += 1
            length = self.fetch(lane, lane.arena + used, ARENA - used)
            if length < 0:
                break
            if self.keep_frame(lane, count, lane.arena + used, length):
                count += 1
                used += (length + 63) & ~63
        lane.dry = length == -EAGAIN
        if length < 0 and length != -EAGAIN:
            self.lose(lane, cython.cast(cython.int, -length))
        return count

    def keep_frame(self, lane, slot, start, length):
        """Make what was read a frame that waits; false if it is none."""
        frame: cython.pointer[Frame] = cython.address(lane.frames[slot])
        length -= self.header_size
        if length < SHORTEST_FRAME:
            atomic.add_u64(cython.address(self.runts), 1, atomic.RELAXED)
            return False
        if length > LONGEST_FRAME:
            atomic.add_u64(cython.address(self.giants), 1, atomic.RELAXED)
            return False
        memset(cython.address(frame.header), 0, cython.sizeof(NetHeader))
        if self.header_size:
            memcpy(cython.address(frame.header), start, cython.sizeof(NetHeader))
        lane.segments[slot].iov_base = start + self.header_size
        lane.segments[slot].iov_len = length
        frame.segments = cython.address(lane.segments[slot])
        frame.count = 1
        frame.length = length
        atomic.add_u64(cython.address(self.received), 1, atomic.RELAXED)
        atomic.add_u64(cython.address(self.received_bytes), length, atomic.RELAXED)
        return True

    def fetch(self, lane, into, room):
        done: int64_t
        if lane.fd < 0:
            return -EAGAIN
        while True:
            done = read(lane.fd, into, room)
            if done >= 0:
                return done
            if errno != EINTR:
                return -errno

    def lose(self, lane, error):
        """Wait no more for a descriptor that will bring no frame again, or it would be readable forever."""
        self.last_error = error
        epoll_ctl(lane.watch, EPOLL_CTL_DEL, lane.fd, cython.NULL)
        with cython.gil:
            self._say_lost(error)

    def _say_lost(self, error: int) -> None:
        log.warning("%s is gone: %s", self.name, os.strerror(error))
        self.set_carrier(False)

    def stats(self) -> dict[str, int]:
        """Frames and bytes each way, and what did not get through.

        ``full``: bursts that found no room. ``down``, ``refused``, ``unreachable``: frames of the guest that
        were dropped, because the interface is down, the kernel will not have them, nobody is there. ``runts``
        and ``giants``: what came and is no frame.
        """
        return {
            "sent": self.sent,
            "sent_bytes": self.sent_bytes,
            "received": self.received,
            "received_bytes": self.received_bytes,
            "full": self.full,
            "down": self.down,
            "refused": self.refused,
            "unreachable": self.unreachable,
            "runts": self.runts,
            "giants": self.giants,
        }

    def close(self) -> None:
        """Close the descriptors."""
        i: cython.int
        for i in range(self.lane_count):
            for fd in (self.lanes[i].watch, self.lanes[i].fd):
                if fd >= 0:
                    os.close(fd)
            self.lanes[i].watch = self.lanes[i].fd = -1
