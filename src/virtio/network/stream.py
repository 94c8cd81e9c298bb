"""Frames on a byte stream, each after its length (4 bytes, most significant first), as QEMU has them."""

from __future__ import annotations

import os

import cython
from cython.cimports.libc.errno import EAGAIN, ECONNRESET, EINTR, ENOBUFS, errno
from cython.cimports.libc.stdint import int64_t, uint8_t, uint32_t
from cython.cimports.libc.stdlib import free, malloc
from cython.cimports.libc.string import memcpy, memmove, memset
from cython.cimports.posix.uio import iovec
from cython.cimports.virtio.memory import atomic
from cython.cimports.virtio.network.fd_link import ARENA, EPOLL_CTL_DEL, epoll_ctl, flatten
from cython.cimports.virtio.network.frame import BURST, LONGEST_FRAME

from virtio.errors import NetworkFramingError

__all__ = ["StreamLink"]


class StreamLink:
    """A link over one stream socket at a time, which another plugs in and out (`plug`, `unplug`).

    ``keeper`` does that; it is started here and stopped by `close`, and looks after the link whenever the
    eventfd ``wake`` counts: `fault` then says what broke, and `push` sends what was left over.

    ``apart`` is for a peer that finds a frame only where a read begins: each is sent by a call of its own,
    which on a unix socket keeps it, up to 32 KiB at least, in one piece.
    """

    def __cinit__(self) -> None:
        pthread_mutex_init(cython.address(self.sending), cython.NULL)
        pthread_mutex_init(cython.address(self.receiving), cython.NULL)
        self.wake = -1

    def __init__(self, name: str, apart: bool = False) -> None:
        FdLink.__init__(self, 1)
        self._name = name
        self.apart = apart
        self.tail = cython.cast(cython.p_char, malloc(LONGEST_FRAME + PREFIX))
        self.scratch = cython.cast(cython.p_char, malloc(LONGEST_FRAME))
        self.prefixes = cython.cast(cython.pointer[uint8_t[4]], malloc(BURST * PREFIX))
        if self.tail is cython.NULL or self.scratch is cython.NULL or self.prefixes is cython.NULL:
            raise MemoryError
        self.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __dealloc__(self) -> None:
        free(self.tail)
        free(self.scratch)
        free(self.prefixes)
        pthread_mutex_destroy(cython.address(self.sending))
        pthread_mutex_destroy(cython.address(self.receiving))

    @property
    def name(self) -> str:
        """Its URL without options."""
        return self._name

    def keep(self, keeper) -> None:
        """Start what looks after the connection: something with ``start`` and ``stop``."""
        self._keeper = keeper
        keeper.start()

    def plug(self, fd: int) -> None:
        """Use a connected, non-blocking socket from now on; it stays the caller's to close."""
        with cython.nogil:
            pthread_mutex_lock(cython.address(self.sending))
            pthread_mutex_lock(cython.address(self.receiving))
        try:
            self.start = self.end = self.tail_at = self.tail_length = 0
            atomic.store_int(cython.address(self.broken), 0, atomic.RELEASE)
            self.set_fd(0, fd)
        finally:
            pthread_mutex_unlock(cython.address(self.receiving))
            pthread_mutex_unlock(cython.address(self.sending))

    def unplug(self) -> None:
        """Use the socket no more: when this returns, nobody is at it."""
        self.plug(-1)

    def fault(self) -> Exception | None:
        """What broke the connection: NetworkFramingError or an OSError; None: nothing."""
        error: cython.int = atomic.load_int(cython.address(self.broken), atomic.ACQUIRE)
        if error == 0:
            return None
        if error == EPROTO:
            return NetworkFramingError(
                f"{self.name}: the other end announced a frame of {self.bad_length} bytes; the longest has "
                f"{LONGEST_FRAME}"
            )
        return OSError(error, os.strerror(error))

    def push(self) -> bool:
        """Send what was left over of the last frame, as far as that goes; whether anything is left."""
        with cython.nogil:
            pthread_mutex_lock(cython.address(self.sending))
            if self.lanes[0].fd >= 0 and self.tail_length:
                self.flush(self.lanes[0].fd)
            pthread_mutex_unlock(cython.address(self.sending))
        return self.tail_length != 0

    def give_up(self, error):
        """Note that the connection is of no use any more; whoever keeps it will see."""
        self.last_error = error
        atomic.store_int(cython.address(self.broken), error, atomic.RELEASE)
        epoll_ctl(self.lanes[0].watch, EPOLL_CTL_DEL, self.lanes[0].fd, cython.NULL)
        eventfd_write(self.wake, 1)

    # Receiving

    def fill(self, lane, wanted):
        count: cython.int = 0
        got: int64_t = 1
        reads: cython.int = 0
        pthread_mutex_lock(cython.address(self.receiving))
        while lane.fd >= 0 and atomic.load_int(cython.address(self.broken), atomic.ACQUIRE) == 0:
            count = self.parse(lane, wanted)
            if count or got <= 0 or reads == MOST_READS:
                break
            got = self.more(lane)
            reads += 1
            if got == 0:
                self.give_up(ECONNRESET)
            elif got < 0 and got != -EAGAIN:
                self.give_up(cython.cast(cython.int, -got))
        pthread_mutex_unlock(cython.address(self.receiving))
        return count

    def parse(self, lane, wanted):
        """Make frames of the bytes at hand, none of which anybody uses any more."""
        count: cython.int = 0
        length: uint32_t
        at: cython.pointer[uint8_t]
        wanted = min(wanted, BURST)
        while count < wanted and self.end - self.start >= PREFIX:
            at = cython.cast(cython.pointer[uint8_t], lane.arena + self.start)
            length = (cython.cast(uint32_t, at[0]) << 24) | (at[1] << 16) | (at[2] << 8) | at[3]
            if length > LONGEST_FRAME:
                self.bad_length = length
                if count == 0:
                    self.give_up(EPROTO)
                break
            if self.end - self.start - PREFIX < length:
                break
            self.start += PREFIX + length
            if self.keep_frame(lane, count, cython.cast(cython.p_char, at) + PREFIX, length):
                count += 1
        return count

    def more(self, lane):
        """Read on, behind the beginning of a frame that is not complete."""
        done: int64_t
        if self.start:
            memmove(lane.arena, lane.arena + self.start, self.end - self.start)
            self.end -= self.start
            self.start = 0
        while True:
            done = recv(lane.fd, lane.arena + self.end, ARENA - self.end, MSG_DONTWAIT)
            if done >= 0:
                self.end += done
                return done
            if errno != EINTR:
                return -errno

    # Sending

    def put(self, queue, frames, count):
        taken: cython.int
        pthread_mutex_lock(cython.address(self.sending))
        taken = self.send_all(frames, count)
        pthread_mutex_unlock(cython.address(self.sending))
        if taken < count:
            atomic.add_u64(cython.address(self.full), 1, atomic.RELAXED)
        return taken

    def send_all(self, frames, count):
        result: cython.int
        taken: cython.int = 0
        fd: cython.int = self.lanes[0].fd
        while taken < count:
            if fd < 0 or atomic.load_int(cython.address(self.broken), atomic.ACQUIRE):
                atomic.add_u64(cython.address(self.unreachable), count - taken, atomic.RELAXED)
                return count
            if self.tail_length and self.flush(fd) <= 0:
                if atomic.load_int(cython.address(self.broken), atomic.ACQUIRE) == 0:
                    break
                continue
            result = self.send_some(fd, cython.address(frames[taken]), 1 if self.apart else count - taken)
            if result == 0:
                break
            if result > 0:
                taken += result
        return taken

    def send_some(self, fd, frames, count):
        """Send as many frames as fit one call; how many were taken, -1 if the connection broke."""
        parts: iovec[256]
        message = cython.declare(msghdr)
        used: cython.int = 0
        done: int64_t
        if frames[0].length > LONGEST_FRAME:
            atomic.add_u64(cython.address(self.refused), 1, atomic.RELAXED)
            return 1
        count = self.pack(frames, count, parts, cython.address(used))
        memset(cython.address(message), 0, cython.sizeof(msghdr))
        message.msg_iov = parts
        message.msg_iovlen = used
        done = sendmsg(fd, cython.address(message), MSG_DONTWAIT | MSG_NOSIGNAL)
        if done >= 0:
            return self.account(frames, count, parts, done)
        if errno in (EAGAIN, EINTR, ENOBUFS):
            return 0
        self.give_up(errno)
        return -1

    def pack(self, frames, count, parts, used):
        """Lay frames out behind their lengths; how many."""
        i: cython.int
        number: cython.int = 0
        length: uint32_t
        while number < count and number < BURST:
            length = frames[number].length
            if length > LONGEST_FRAME or (number and used[0] + 1 + frames[number].count > MOST_PARTS):
                break
            for i in range(PREFIX):
                self.prefixes[number][i] = length >> (24 - 8 * i) & 0xFF
            parts[used[0]].iov_base = cython.address(self.prefixes[number][0])
            parts[used[0]].iov_len = PREFIX
            used[0] += 1
            number += 1
            if 1 + frames[number - 1].count > MOST_PARTS:  # it is the first then, and goes alone
                flatten(cython.address(frames[number - 1]), self.scratch)
                parts[1].iov_base = self.scratch
                parts[1].iov_len = length
                used[0] = 2
                break
            for i in range(frames[number - 1].count):
                parts[used[0]] = frames[number - 1].segments[i]
                used[0] += 1
        return number

    def account(self, frames, count, parts, done):
        """Count what was sent, ``done`` bytes of these frames; the rest of one that was begun is kept."""
        i: cython.int
        size: int64_t
        skip: int64_t = done
        for i in range(count):
            if done <= 0:
                return i
            size = PREFIX + frames[i].length
            atomic.add_u64(cython.address(self.sent), 1, atomic.RELAXED)
            atomic.add_u64(cython.address(self.sent_bytes), frames[i].length, atomic.RELAXED)
            if done < size:
                self.keep_tail(parts, skip, size - done)
                return i + 1
            done -= size
        return count

    def keep_tail(self, parts, skip, length):
        """Copy ``length`` bytes that come after the first ``skip``."""
        piece: cython.size_t
        filled: cython.size_t = 0
        while skip >= parts[0].iov_len:
            skip -= parts[0].iov_len
            parts += 1
        while filled < length:
            piece = min(parts[0].iov_len - skip, length - filled)
            memcpy(self.tail + filled, cython.cast(cython.p_char, parts[0].iov_base) + skip, piece)
            filled += piece
            skip = 0
            parts += 1
        self.tail_at = 0
        self.tail_length = length
        eventfd_write(self.wake, 1)

    def flush(self, fd):
        """Send the rest of a frame; 1: all of it, 0: not yet, -1: the connection broke."""
        part = cython.declare(iovec)
        message = cython.declare(msghdr)
        done: int64_t
        memset(cython.address(message), 0, cython.sizeof(msghdr))
        message.msg_iov = cython.address(part)
        message.msg_iovlen = 1
        while self.tail_at < self.tail_length:
            part.iov_base = self.tail + self.tail_at
            part.iov_len = self.tail_length - self.tail_at
            done = sendmsg(fd, cython.address(message), MSG_DONTWAIT | MSG_NOSIGNAL)
            if done < 0:
                if errno in (EAGAIN, EINTR, ENOBUFS):
                    return 0
                self.give_up(errno)
                return -1
            self.tail_at += done
        self.tail_at = self.tail_length = 0
        return 1

    def close(self) -> None:
        """Hang up."""
        if self._keeper is not None:
            self._keeper.stop()
            self._keeper = None
        self.unplug()
        FdLink.close(self)
        if self.wake >= 0:
            os.close(self.wake)
            self.wake = -1
