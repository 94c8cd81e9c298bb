"""Frames into and out of a shared switch's socket, many in a system call, never waiting for the peer."""

from __future__ import annotations

import cython
from cython.cimports.libc.errno import EAGAIN, EINTR, EMSGSIZE, EPIPE, EPROTO, errno
from cython.cimports.libc.stdint import uint8_t
from cython.cimports.libc.stdlib import free, malloc
from cython.cimports.libc.string import memset
from cython.cimports.posix.uio import iovec
from cython.cimports.virtio.memory import atomic
from cython.cimports.virtio.network.frame import BURST, Frame
from cython.cimports.virtio.network.link import Sink
from cython.cimports.virtio.network.switch.message import (
    FRAME_MESSAGE,
    LONGEST_MESSAGE,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    MSG_TRUNC,
    POLLIN,
    PREFIX,
    STRIDE,
    VERSION,
    mmsghdr,
    poll,
    read_prefix,
    recvmmsg,
    sendmmsg,
    write_prefix,
)

__all__ = ["Inlet", "Outlet", "PipeLink"]


class Outlet(Sink):
    """Sends frames to the socket ``fd``, the caller's; it does not take what that has no room for."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def lost(self) -> int:
        """How many frames were larger than a packet can be, or in too many pieces."""
        return self.unsendable

    def put(self, queue, frames, count):
        batch = cython.declare(Sending)
        start: cython.int = 0
        i: cython.int = 0
        sent: cython.int
        while start < count:
            batch.count = 0
            batch.used = 0
            i = start
            while i < count and batch.count < BURST and batch.used + frames[i].count + 1 <= SCRATCH:
                add(cython.address(batch), frames + i)
                i += 1
            if batch.count == 0:
                atomic.add_u64(cython.address(self.unsendable), 1, atomic.RELAXED)
                start += 1
                continue
            sent = self.send(cython.address(batch))
            start += sent
            if sent < batch.count:
                return start
        return start

    def send(self, batch):
        """Send a batch; how many messages are gone, or can never go."""
        done: cython.int = 0
        result: cython.int
        while done < batch.count:
            result = sendmmsg(self.fd, batch.messages + done, batch.count - done, MSG_DONTWAIT | MSG_NOSIGNAL)
            if result > 0:
                done += result
            elif errno == EMSGSIZE:
                atomic.add_u64(cython.address(self.unsendable), 1, atomic.RELAXED)
                done += 1
            elif errno != EINTR:
                break
        return done


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def add(batch: cython.pointer[Sending], frame: cython.pointer[cython.const[Frame]]) -> cython.void:
    """Describe a frame as a message behind the others; there is room."""
    message: cython.pointer[mmsghdr] = cython.address(batch.messages[batch.count])
    prefix: cython.pointer[uint8_t] = cython.address(batch.prefixes[batch.count][0])
    segments: cython.pointer[iovec] = batch.segments + batch.used
    i: cython.int
    write_prefix(cython.address(frame.header), prefix)
    segments[0].iov_base = prefix
    segments[0].iov_len = PREFIX
    for i in range(frame.count):
        segments[i + 1] = frame.segments[i]
    memset(message, 0, cython.sizeof(mmsghdr))
    message.msg_hdr.msg_iov = segments
    message.msg_hdr.msg_iovlen = frame.count + 1
    batch.used += frame.count + 1
    batch.count += 1


class Inlet:
    """Takes frames from sockets, for one thread."""

    def __cinit__(self) -> None:
        # Only what is written to takes memory.
        self.buffers = cython.cast(cython.pointer[uint8_t], malloc(BURST * STRIDE))
        if self.buffers == cython.NULL:
            raise MemoryError

    def __dealloc__(self) -> None:
        free(self.buffers)

    def pump(self, fd: int, sink: Sink) -> int:
        """Move frames that have come at ``fd`` to ``sink``, up to a burst.

        How many; -EAGAIN: none has come; -EPIPE: the other side left; -EPROTO: it sent something else.
        """
        result: cython.int
        at: cython.int = fd
        with cython.nogil:
            result = self.move(at, sink)
        return result

    def move(self, fd, sink):
        messages = cython.declare(mmsghdr[BURST])
        segments = cython.declare(iovec[BURST])
        frames = cython.declare(Frame[BURST])
        i: cython.int
        count: cython.int
        good: cython.int = 0
        outcome: cython.int
        memset(messages, 0, cython.sizeof(messages))
        for i in range(BURST):
            segments[i].iov_base = self.buffers + i * STRIDE
            segments[i].iov_len = LONGEST_MESSAGE
            messages[i].msg_hdr.msg_iov = cython.address(segments[i])
            messages[i].msg_hdr.msg_iovlen = 1
        count = recvmmsg(fd, messages, BURST, MSG_DONTWAIT, cython.NULL)
        if count < 0:
            return -EAGAIN if errno in (EAGAIN, EINTR) else -EPIPE
        outcome = self.sort(messages, count, frames, segments, cython.address(good))
        if good and sink is not None:
            self.dropped += good - sink.put(0, frames, good)
        else:
            self.dropped += good
        return outcome if outcome < 0 else count

    def sort(self, messages, count, frames, segments, good):
        """Describe the frames among the packets; a negative errno if something else is among them."""
        i: cython.int
        length: cython.uint
        packet: cython.pointer[uint8_t]
        frame: cython.pointer[Frame]
        for i in range(count):
            packet = self.buffers + i * STRIDE
            length = messages[i].msg_len
            if length == 0:
                return -EPIPE
            if packet[0] != FRAME_MESSAGE or length < 2 or packet[1] != VERSION:
                return -EPROTO
            frame = frames + good[0]
            if (
                length < PREFIX
                or messages[i].msg_hdr.msg_flags & MSG_TRUNC
                or not read_prefix(packet, length - PREFIX, cython.address(frame.header))
            ):
                self.invalid += 1
                continue
            segments[good[0]].iov_base = packet + PREFIX
            segments[good[0]].iov_len = length - PREFIX
            frame.segments = segments + good[0]
            frame.count = 1
            frame.length = length - PREFIX
            good[0] += 1
        return 0


class PipeLink(Link):
    """A NIC's end of a shared switch: it sends to ``fd``, and `run` delivers what comes from there."""

    def __cinit__(self) -> None:
        pthread_mutex_init(cython.address(self.delivering), cython.NULL)

    def __init__(self, fd: int) -> None:
        Link.__init__(self)
        self.outlet = Outlet(fd)
        self.inlet = Inlet()

    def __dealloc__(self) -> None:
        pthread_mutex_destroy(cython.address(self.delivering))

    def put(self, queue, frames, count):
        taken: cython.int = self.outlet.put(queue, frames, count)
        atomic.add_u64(cython.address(self.sent), taken, atomic.RELAXED)
        atomic.add_u64(cython.address(self.dropped), count - taken, atomic.RELAXED)
        return count

    def disconnect(self) -> None:
        """Deliver nothing more: when this returns, no thread is in the guest's `put`."""
        with cython.nogil:
            pthread_mutex_lock(cython.address(self.delivering))
        before = self.guest  # let go of only after the lock is: that may run any code
        self.guest = None
        pthread_mutex_unlock(cython.address(self.delivering))
        del before

    def run(self, wake: int) -> int:
        """Deliver until the connection ends (-EPIPE, -EPROTO) or ``wake`` is readable (0)."""
        result: cython.int
        other: cython.int = wake
        with cython.nogil:
            result = self.serve(other)
        return result

    def serve(self, wake):
        fds = cython.declare(pollfd[2])
        result: cython.int
        while True:
            fds[0].fd = self.outlet.fd
            fds[0].events = POLLIN
            fds[1].fd = wake
            fds[1].events = POLLIN
            fds[1].revents = 0
            poll(fds, 2, -1)
            if fds[1].revents:
                return 0
            result = self.deliver()
            if result < 0 and result != -EAGAIN:
                return result

    def deliver(self):
        result: cython.int
        pthread_mutex_lock(cython.address(self.delivering))
        result = self.inlet.move(self.outlet.fd, self.guest)
        pthread_mutex_unlock(cython.address(self.delivering))
        if result > 0:
            self.received += result
        return result

    def counters(self) -> dict[str, int]:
        """Frames ``sent``, ``received``, ``dropped`` on the way out, ``lost`` as the guest had no room."""
        return {
            "sent": self.sent,
            "received": self.received,
            "dropped": self.dropped + self.outlet.unsendable,
            "lost": self.inlet.dropped,
            "invalid": self.inlet.invalid,
        }
