"""Writes frames to a pcapng file; no frame ever waits for the disk.

The thread that has a frame appends its finished block to a buffer; the writer's thread swaps that buffer for
an empty one when it is half full, or a second after its first frame, and writes it in one call. What finds
the buffer full is not recorded but counted, in the file too. The file is valid up to its last whole block at
any time.

Blocks are in the order of their time. A burst bears the time before it was handed on, so an answer has a
later one than what it answers, whichever thread records first; nothing is written while an older burst is
under way.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
import threading

import cython
from cython.cimports.libc.errno import EINTR, errno
from cython.cimports.libc.stdint import int64_t, uint32_t, uint64_t
from cython.cimports.libc.stdio import snprintf
from cython.cimports.libc.stdlib import free, malloc
from cython.cimports.libc.string import memcpy, memmove, memset
from cython.cimports.posix.time import CLOCK_MONOTONIC, CLOCK_REALTIME
from cython.cimports.posix.unistd import ftruncate, write
from cython.cimports.virtio.memory.clock import read_clock
from cython.cimports.virtio.network.capture import BLOCK_TIME, Passage
from cython.cimports.virtio.network.copies import copy_out
from cython.cimports.virtio.network.frame import GSO_ECN, GSO_NONE, NEEDS_CSUM, Frame, NetHeader
from cython.cimports.virtio.network.threads import (
    make_condition,
    pthread_cond_destroy,
    pthread_cond_signal,
    pthread_cond_wait,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    wait_until,
)

from virtio.errors import NetworkError
from virtio.network import pcapng
from virtio.network.link import Link

__all__ = ["Capture", "CaptureLink"]

logger = logging.getLogger("virtio.network")


def open_file(path: str) -> int:
    """A file that nobody else captures to, emptied. Raises NetworkError."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise NetworkError(f"cannot capture to {path}: {error.strerror}") from None
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(fd, 0)
    except BlockingIOError:
        os.close(fd)
        raise NetworkError(f"another capture is being written to {path}") from None
    return fd


class Capture:
    """A pcapng file of one interface called ``name``; an existing file is overwritten.

    At most ``snaplen`` bytes of a frame are kept (0: all). ``buffer`` bytes may wait for the disk, and a
    frame for ``flush`` seconds. Raises NetworkError when the file cannot be written.
    """

    def __cinit__(self) -> None:
        self.fd = -1
        pthread_mutex_init(cython.address(self.mutex), cython.NULL)
        make_condition(cython.address(self.work))

    def __init__(
        self, path: str, name: str, *, snaplen: int = 0, buffer: int = 8 << 20, flush: float = 1.0
    ) -> None:
        self.path = path
        self.snaplen = snaplen
        self.room = buffer // 2
        self.flush = int(flush * 1e9)
        self.filling = cython.cast(cython.p_char, malloc(self.room))
        self.writing = cython.cast(cython.p_char, malloc(self.room))
        self.aside = cython.cast(cython.p_char, malloc(self.room))
        if self.filling == cython.NULL or self.writing == cython.NULL or self.aside == cython.NULL:
            raise MemoryError
        self.fd = open_file(path)
        try:
            self.stored = os.write(
                self.fd, pcapng.section_header("pyvirtio") + pcapng.interface(name, snaplen)
            )
        except OSError as error:
            raise NetworkError(f"cannot capture to {path}: {error.strerror}") from None
        self.thread = threading.Thread(target=self.run, name="virtio-capture", daemon=True)
        self.thread.start()

    def __dealloc__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        free(self.filling)
        free(self.writing)
        free(self.aside)
        pthread_cond_destroy(cython.address(self.work))
        pthread_mutex_destroy(cython.address(self.mutex))

    def run(self) -> None:
        """Write until `close`; the target of the writer's thread."""
        with cython.nogil:
            self.serve()

    def close(self) -> None:
        """Write all that was recorded, and how much was not."""
        if self.fd < 0:
            return
        pthread_mutex_lock(cython.address(self.mutex))
        self.closing = True
        pthread_cond_signal(cython.address(self.work))
        pthread_mutex_unlock(cython.address(self.mutex))
        self.thread.join()
        self.tell()
        os.close(self.fd)
        self.fd = -1

    def stats(self) -> dict[str, int]:
        """``frames`` that came, and how many of them were ``dropped``."""
        return {"frames": self.frames, "dropped": self.dropped}

    def begin(self, passage):
        """A burst is about to be handed on."""
        pthread_mutex_lock(cython.address(self.mutex))
        passage.time = read_clock(CLOCK_REALTIME)
        passage.older = self.newest
        passage.newer = cython.NULL
        if self.newest == cython.NULL:
            self.oldest = passage
        else:
            self.newest.newer = passage
        self.newest = passage
        pthread_mutex_unlock(cython.address(self.mutex))

    def record(self, passage, frames, count, queue, direction):
        """That burst was handed on: so many of its frames were taken."""
        i: cython.int
        pthread_mutex_lock(cython.address(self.mutex))
        if passage.older == cython.NULL:
            self.oldest = passage.newer
        else:
            passage.older.newer = passage.newer
        if passage.newer == cython.NULL:
            self.newest = passage.older
        else:
            passage.newer.older = passage.older
        before: uint64_t = self.used
        for i in range(count):
            self.append(cython.address(frames[i]), queue, direction, passage.time)
        self.put_in_order(before, passage.time)
        half: uint64_t = self.room // 2
        if (before == 0 and self.used > 0) or (before <= half and self.used > half):
            pthread_cond_signal(cython.address(self.work))
        pthread_mutex_unlock(cython.address(self.mutex))

    def append(self, frame, queue, direction, time):
        kept: uint32_t = frame.length
        if 0 < self.snaplen < kept:
            kept = self.snaplen
        self.frames += 1
        if self.error != 0 or self.closing or self.used + kept + BLOCK > self.room:
            self.dropped += 1
            return
        self.recorded += 1
        self.used += format_block(self.filling + self.used, frame, kept, queue, direction, time)

    def put_in_order(self, first, time):
        """Move the blocks from ``first`` on, all of this time, before those that are later."""
        length: uint64_t = self.used - first
        place: uint64_t = self.start_of_later(first, time + 1, cython.NULL)
        if length == 0 or place == first:
            return
        memcpy(self.aside, self.filling + first, length)
        memmove(self.filling + place + length, self.filling + place, first - place)
        memcpy(self.filling + place, self.aside, length)

    def start_of_later(self, end, time, frames):
        """Where those of the blocks before ``end`` begin that are of ``time`` or later; counts them."""
        length: uint32_t
        while end > 0:
            memcpy(cython.address(length), self.filling + end - 4, 4)  # a block ends with its length
            if block_time(self.filling + end - length) < time:
                break
            end -= length
            if frames != cython.NULL:
                frames[0] += 1
        return end

    def serve(self):
        length: uint64_t
        failed: cython.int
        while True:
            length = self.collect()
            if length == 0:
                return
            failed = self.store(self.writing, length)
            if failed:
                self.fail(failed)
            elif self.dropped != self.told:
                self.tell()

    def collect(self):
        """Wait for a buffer that is to be written. Bytes in it; 0: there will be none."""
        length: uint64_t = 0
        pthread_mutex_lock(cython.address(self.mutex))
        while length == 0:
            while self.used == 0 and not self.closing:
                pthread_cond_wait(cython.address(self.work), cython.address(self.mutex))
            until: int64_t = read_clock(CLOCK_MONOTONIC) + self.flush
            late: cython.int = 0
            while self.used <= self.room // 2 and not self.closing and late == 0:
                late = wait_until(cython.address(self.work), cython.address(self.mutex), until)
            length = self.swap()
            if self.closing:
                break
        pthread_mutex_unlock(cython.address(self.mutex))
        return length

    def swap(self):
        """Give the writer the blocks to which none can come any more that is older. Bytes of them."""
        kept: uint64_t = 0
        length: uint64_t = self.used
        if self.oldest != cython.NULL and not self.closing:
            length = self.start_of_later(self.used, self.oldest.time, cython.address(kept))
            if self.used - length > self.room // 2:  # rather out of order than not at all
                length = self.used
                kept = 0
        full: cython.p_char = self.filling
        self.filling = self.writing
        self.writing = full
        self.used -= length
        memcpy(self.filling, full + length, self.used)
        self.leaving = self.recorded - kept
        self.recorded = kept
        return length

    def store(self, data, length):
        """Write all, or nothing; 0 or errno."""
        done: cython.Py_ssize_t
        before: int64_t = self.stored
        if self.error != 0:
            return 0
        while length > 0:
            done = write(self.fd, data, length)
            if done < 0 and errno == EINTR:
                continue
            if done < 0:
                failed: cython.int = errno
                self.stored = before
                ftruncate(self.fd, before)  # a pipe cannot, and its reader sees the block cut
                return failed
            data += done
            length -= done
            self.stored += done
        return 0

    def tell(self):
        """Write to the file how many frames came and how many were not recorded."""
        if self.error != 0:
            return
        dropped: uint64_t = self.dropped
        block = pcapng.statistics(read_clock(CLOCK_REALTIME), self.frames, dropped)
        data: cython.p_const_char = block
        length: uint64_t = len(block)
        failed: cython.int
        with cython.nogil:
            failed = self.store(data, length)
        self.leaving = 0
        self.told = dropped
        if failed:
            self.fail(failed)

    def fail(self, error):
        """Stop recording, with one word about it."""
        pthread_mutex_lock(cython.address(self.mutex))
        self.error = error
        self.dropped += self.leaving + self.recorded
        self.used = self.recorded = 0
        pthread_mutex_unlock(cython.address(self.mutex))
        logger.error("capture to %s ended: %s", self.path, os.strerror(error))


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def place_u32(target: cython.p_char, value: uint32_t) -> cython.p_char:
    memcpy(target, cython.address(value), 4)
    return target + 4


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def block_time(block: cython.p_char) -> int64_t:
    words = cython.declare(uint32_t[2])
    memcpy(words, block + BLOCK_TIME, 8)
    return cython.cast(int64_t, words[0]) << 32 | words[1]


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def place_option(target: cython.p_char, code: uint32_t, length: uint32_t) -> cython.p_char:
    return place_u32(target, code | (length << 16))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def place_note(target: cython.p_char, header: cython.pointer[NetHeader]) -> cython.p_char:
    """A comment about what remains to be computed; `pcapng.describe_offload` is the same in Python."""
    note: cython.char[NOTE]
    length: uint32_t = 0
    kind: cython.int = header.gso_type & 0x7F
    if header.flags & NEEDS_CSUM:
        length = snprintf(
            note, NOTE, "checksum not computed: from byte %d, at %d",
            cython.cast(cython.int, header.csum_start),
            cython.cast(cython.int, header.csum_start) + header.csum_offset,
        )  # fmt: skip
    if kind != GSO_NONE:
        length += snprintf(
            note + length, NOTE - length,
            "%snot segmented: %s%s, segments of %d bytes after %d of headers",
            "; " if length else "", gso_name(kind),
            " with ECN" if header.gso_type & GSO_ECN else "",
            cython.cast(cython.int, header.gso_size), cython.cast(cython.int, header.hdr_len),
        )  # fmt: skip
    if length == 0:
        return target
    target = place_option(target, 1, length)
    memset(target, 0, (length + 3) & ~3)
    memcpy(target, note, length)
    return target + ((length + 3) & ~3)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def gso_name(kind: cython.int) -> cython.p_const_char:
    if kind == 1:
        return "tcpv4"
    if kind == 3:
        return "udp"
    if kind == 4:
        return "tcpv6"
    return "udp-l4" if kind == 5 else "another type"


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def format_block(
    start: cython.p_char,
    frame: cython.pointer[cython.const[Frame]],
    kept: uint32_t,
    queue: cython.int,
    direction: cython.int,
    time: int64_t,
) -> uint32_t:
    """An Enhanced Packet Block, as `pcapng.packet` makes it. Its length."""
    header: NetHeader = frame.header
    at: cython.p_char = place_u32(start, 6)
    at = place_u32(at + 4, 0)
    at = place_u32(at, cython.cast(uint32_t, time >> 32))
    at = place_u32(at, cython.cast(uint32_t, time))
    at = place_u32(at, kept)
    at = place_u32(at, frame.length)
    memset(at + (kept & ~3), 0, 4)
    copy_out(frame, at, kept)
    at += (kept + 3) & ~3
    at = place_u32(place_option(at, 2, 4), direction)
    at = place_u32(place_option(at, 6, 4), queue)
    at = place_note(at, cython.address(header))
    at = place_u32(at, 0)
    length: uint32_t = cython.cast(uint32_t, at - start) + 4
    place_u32(at, length)
    place_u32(start + 4, length)
    return length


class CaptureLink:
    """Records what passes: what the guest sends as outbound, what it takes as inbound."""

    def __init__(self, inner: Link, capture: Capture) -> None:
        super().__init__(inner)
        self.capture = capture

    def put(self, queue, frames, count):
        passage = cython.declare(Passage)
        self.capture.begin(cython.address(passage))
        taken: cython.int = self.inner.put(queue, frames, count)
        self.capture.record(cython.address(passage), frames, taken, queue, 2)
        return taken

    def deliver(self, queue, frames, count):
        if self.guest is None:
            return count
        passage = cython.declare(Passage)
        self.capture.begin(cython.address(passage))
        taken: cython.int = self.guest.put(queue, frames, count)
        self.capture.record(cython.address(passage), frames, taken, queue, 1)
        return taken

    def stats(self) -> dict[str, int]:
        """The inner link's, and ``capture_frames`` and ``capture_dropped``."""
        return self.inner.stats() | {f"capture_{name}": n for name, n in self.capture.stats().items()}

    def close(self) -> None:
        """Close the inner link, then the file."""
        try:
            self.inner.close()
        finally:
            self.capture.close()
