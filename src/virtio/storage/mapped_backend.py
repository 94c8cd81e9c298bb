"""Files through a shared mapping, where touching it cannot wait.

Copying from a mapping costs a third of a system call, but a page that is not there stops the queue until
the medium has delivered it, and a page that cannot be had raises SIGBUS. So a copy is made only where every
page is known to be resident; all else takes the system calls of `FileBackend`.

What is known: the file is cut into chunks. A chunk used twice is asked about (mincore) and, if it is wholly
resident, mapped (MADV_POPULATE_READ); the proof holds for a quarter to half a second. A major fault of a
queue's thread, or of any other in a copy, ends all proofs at once.

Writing through the mapping needs pages that are mapped for writing, which each writeback ends; making them so
costs as much as a dozen system calls and dirties them all. Every further write is only a copy. So a chunk is
opened for writing once a quarter as many pages as it has were written to it since the last flush, in about
the time that the kernel leaves pages dirty (for large writes: as many as it has), and if it has no hole:
those are filled by system calls, which can say ENOSPC. fdatasync covers stores to a shared mapping like other
writes.

SIGBUS: the guard puts zeroes where a page was lost and sets `lost`. Copies look at it when they are done:
from then on until the mapping is mended nothing that they moved counts, and the request is done again by
system calls, which find the right answer. Mending waits until no copy is going on: each counts itself in
its thread's slot, on a cache line of its own.
"""

from __future__ import annotations

import fcntl
import logging
import os

import cython
from cython.cimports.libc.errno import EAGAIN, errno
from cython.cimports.libc.stdint import int64_t, uint16_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memset
from cython.cimports.posix.mman import (
    MAP_ANONYMOUS,
    MAP_FAILED,
    MAP_FIXED,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    mmap,
    munmap,
)
from cython.cimports.posix.time import CLOCK_MONOTONIC_COARSE
from cython.cimports.virtio.memory import atomic
from cython.cimports.virtio.memory.clock import read_clock
from cython.cimports.virtio.memory.guard import guard_register, guard_release
from cython.cimports.virtio.storage import linux
from cython.cimports.virtio.storage.backend import DISCARD, FLUSH, ZERO, gather, scatter
from cython.cimports.virtio.storage.gate import (
    SLOTS,
    Slot,
    close,
    enter,
    keep_shut,
    leave,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_self,
    reopen,
)
from cython.cimports.virtio.storage.residence import PAGE, all_allocated, all_resident

logger = logging.getLogger("virtio.storage")

ALIGNMENT = 1 << 21  # of a huge page, in bytes
ROOM = 1 << 36  # bytes of address space for the file to grow into, or as much as it has, if that is more


@cython.cfunc
def is_writable(fd: cython.int) -> cython.bint:
    """Whether the file was opened for writing."""
    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def present_tick() -> uint64_t:
    return cython.cast(uint64_t, read_clock(CLOCK_MONOTONIC_COARSE)) >> TICK_BITS


class MappedBackend(FileBackend):
    """A file through the page cache, by copies from and to a shared mapping where those cannot wait."""

    def __cinit__(self) -> None:
        pthread_mutex_init(cython.address(self.gate.mutex), cython.NULL)

    def __init__(self, fd: int) -> None:
        status = cython.declare(linux.Statfs)
        memory: cython.p_void = cython.NULL
        FileBackend.__init__(self, fd, False)
        self.writable = is_writable(fd)
        self.in_memory = linux.fstatfs(fd, cython.address(status)) == 0 and status.f_type == linux.TMPFS_MAGIC
        if linux.posix_memalign(cython.address(memory), 64, SLOTS * cython.sizeof(Slot)) != 0:
            raise MemoryError
        memset(memory, 0, SLOTS * cython.sizeof(Slot))
        self.gate.slots = cython.cast(cython.pointer[Slot], memory)
        self.gate.shut = 1
        self.remap()

    def __dealloc__(self) -> None:
        self.unmap()
        free(self.gate.slots)
        pthread_mutex_destroy(cython.address(self.gate.mutex))

    def fit(self) -> None:
        """Take note of the size that the file has now; map more of it if it has outgrown the mapping."""
        if os.fstat(self.fd).st_size > self.mapped > 0:
            try:
                self.remap()
            except OSError as error:
                logger.warning("a file that grew is no longer mapped: %s", error.strerror)
        self.measure()

    def remap(self) -> None:
        """Map the file anew, with room to grow. OSError: it stays unmapped."""
        size: int = os.fstat(self.fd).st_size
        mapped: cython.bint = False
        idle: cython.bint
        with cython.nogil:
            idle = close(cython.address(self.gate))
        if not idle:
            return  # a copy hangs: what lies behind the mapping is read and written without it
        try:
            self.unmap()
            self.map(size + max(size, ROOM))
            self.measure()
            mapped = True
        finally:
            if mapped:
                reopen(cython.address(self.gate))
            else:
                keep_shut(cython.address(self.gate))

    def close(self) -> None:
        """Let go of the file: its lock stays as long as it is mapped. The system calls still work."""
        gone: cython.bint
        if self.mapped == 0:
            return
        with cython.nogil:
            gone = close(cython.address(self.gate))
        if gone:
            self.unmap()
            keep_shut(cython.address(self.gate))

    def stats(self) -> dict[str, int]:
        """Counters since the start.

        ``reads`` and ``writes`` are runs of requests copied, ``proofs`` looks at a chunk, ``denied`` those
        that found it not resident, ``forgotten`` times that all proofs ended early, ``repairs`` times that
        lost pages were mapped again.
        """
        names = ("reads", "writes", "proofs", "denied")
        totals = dict.fromkeys(names, 0)
        i: cython.int
        for i in range(SLOTS):
            slot = cython.address(self.gate.slots[i])
            for name, value in zip(names, (slot.reads, slot.writes, slot.proofs, slot.denied), strict=True):
                totals[name] += value
        return {**totals, "forgotten": self.forgotten // 2, "repairs": self.repairs}

    # The mapping.

    def map(self, room):
        """Map ``room`` bytes of the file, though it has fewer: what it grows by is then mapped already.

        Where the page cache holds the file in huge pages, the alignment lets them be mapped as such.
        """
        prot: cython.int = PROT_READ | PROT_WRITE if self.writable else PROT_READ
        anonymous: cython.int = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
        bookkeeping: uint64_t
        room = (room + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        bookkeeping = (room // CHUNK + 1) * cython.sizeof(Chunk)
        self.space_size = room + ALIGNMENT
        self.space = mmap(cython.NULL, self.space_size, PROT_NONE, anonymous, -1, 0)
        if self.space == MAP_FAILED:
            raise OSError(errno, "no address space to map a file")
        start: uint64_t = cython.cast(uint64_t, self.space)
        start = (start + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        self.base = cython.cast(cython.p_char, cython.cast(cython.p_void, start))
        book: cython.p_void = mmap(cython.NULL, bookkeeping, PROT_READ | PROT_WRITE, anonymous, -1, 0)
        if (
            book == MAP_FAILED
            or mmap(self.base, room, prot, MAP_SHARED | MAP_FIXED, self.fd, 0) == MAP_FAILED
        ):
            code = errno
            munmap(self.space, self.space_size)
            if book != MAP_FAILED:
                munmap(book, bookkeeping)
            raise OSError(code, os.strerror(code))
        self.chunks = cython.cast(cython.pointer[Chunk], book)
        self.lost = 0
        self.guard = guard_register(self.base, room, PAGE, cython.address(self.lost))
        self.mapped = room
        return 0

    def unmap(self):
        if self.mapped == 0:
            return
        guard_release(self.guard)
        munmap(self.space, self.space_size)
        munmap(self.chunks, (self.mapped // CHUNK + 1) * cython.sizeof(Chunk))
        self.mapped = 0
        self.extent = 0

    def mend(self):
        """Put the file back where the guard had to put zeroes."""
        prot: cython.int = PROT_READ | PROT_WRITE if self.writable else PROT_READ
        if not close(cython.address(self.gate)):
            return
        if atomic.load_int(cython.address(self.lost), atomic.RELAXED) != 0 and self.mapped != 0:
            if mmap(self.base, self.mapped, prot, MAP_SHARED | MAP_FIXED, self.fd, 0) == MAP_FAILED:
                keep_shut(cython.address(self.gate))  # shut for good
                return
            linux.madvise(self.chunks, (self.mapped // CHUNK + 1) * cython.sizeof(Chunk), linux.MADV_DONTNEED)
            self.measure()
            self.repairs += 1
            atomic.store_int(cython.address(self.lost), 0, atomic.SEQ_CST)
        reopen(cython.address(self.gate))

    # Copies.

    def attempt_read(self, segments, count, offset, length):
        done: int64_t = self.copy(False, segments, count, offset, length)
        if done != 0:
            return done
        done = FileBackend.attempt_read(self, segments, count, offset, length)
        if done > 0:
            self.note(False, offset, done)
        return done

    def attempt_write(self, segments, count, offset, length):
        done: int64_t = self.copy(True, segments, count, offset, length)
        if done != 0:
            return done
        done = FileBackend.attempt_write(self, segments, count, offset, length)
        if done > 0:
            self.note(True, offset, done)
        return done

    def copy(self, writing, segments, count, offset, length):
        """All of ``length``, 0 where it is not known that a copy would not wait, -EAGAIN if it went wrong."""
        slot: cython.pointer[Slot] = enter(cython.address(self.gate), cython.address(self.lost))
        done: int64_t = 0
        if slot == cython.NULL:
            return 0
        if self.proven(slot, writing, offset, length):
            done = length
            if writing:
                slot.writes += 1
                gather(segments, count, 0, self.base + offset, length)
                # A load may be done before an earlier store has found its page.
                atomic.fence(atomic.SEQ_CST)
            else:
                slot.reads += 1
                scatter(segments, count, 0, self.base + offset, length)
                atomic.fence(atomic.ACQUIRE)
            if atomic.load_int(cython.address(self.lost), atomic.ACQUIRE) != 0:
                done = -EAGAIN
            slot.untold -= 1
            if slot.untold <= 0:
                self.watch(slot)
        leave(slot)
        return done

    def hint(self, offset, length):
        # In the extent means in the mapping; a prefetch of what is not mapped does nothing.
        i: cython.int
        if offset < self.extent:
            for i in range(4):
                atomic.prefetch(self.base + offset + i * 64)

    # Proofs.

    def proven(self, slot, writing, offset, length):
        tick: uint64_t = present_tick()
        index: uint64_t = offset >> CHUNK_BITS
        last: uint64_t = (offset + length - 1) >> CHUNK_BITS
        generation: uint32_t
        if tick != self.ticked:
            self.ticked = tick
            self.measure()
            self.watch(slot)
        if offset + length > atomic.load_u64(cython.address(self.extent), atomic.RELAXED):
            return False
        if writing and not self.writable:
            return False
        generation = tick + atomic.load_int(cython.address(self.forgotten), atomic.RELAXED)
        while index <= last:
            if not self.resident(slot, index, generation, self.in_memory or not writing):
                return False
            if writing and not self.hot(index, self.era(tick), length):
                return False
            index += 1
        return True

    def resident(self, slot, index, generation, populate):
        chunk: cython.pointer[Chunk] = self.chunks + index
        word: uint32_t = chunk.resident
        kind: uint32_t = word & 3
        fresh: cython.bint = ((generation - (word >> 2)) & STAMP) <= 1
        if fresh and kind == PROVEN:
            return True
        if kind == UNKNOWN or (fresh and kind == DENIED):
            return False
        slot.proofs += 1
        if self.prove(index, populate and kind != PROVEN):
            chunk.resident = (generation << 2) | PROVEN
            return True
        slot.denied += 1
        chunk.resident = (generation << 2) | DENIED
        return False

    def prove(self, index, populate):
        """Ask whether all pages of a chunk are resident, and map them if wanted."""
        start: uint64_t = index << CHUNK_BITS
        length: uint64_t = atomic.load_u64(cython.address(self.extent), atomic.RELAXED) - start
        if length > CHUNK:
            length = CHUNK
        if not all_resident(self.base + start, length):
            return False
        if populate:
            linux.madvise(self.base + start, length, MADV_POPULATE_READ)
        return True

    def hot(self, index, era, length):
        """Whether writing so much to this resident chunk pays, and cannot run out of space."""
        chunk: cython.pointer[Chunk] = self.chunks + index
        end: uint64_t
        enough: uint16_t = CHUNK_PAGES if length >= LARGE else HOT
        if chunk.era != era or chunk.writes < (1 if self.in_memory else enough):
            return False
        if chunk.writes != READY:
            end = atomic.load_u64(cython.address(self.extent), atomic.RELAXED)
            if end > (index + 1) << CHUNK_BITS:
                end = (index + 1) << CHUNK_BITS
            # A resident page of a file in memory is all there is to allocate.
            if not self.in_memory and not all_allocated(self.fd, index << CHUNK_BITS, end):
                chunk.writes = 0
                return False
            chunk.writes = READY
            if not self.in_memory:
                self.open(index << CHUNK_BITS, end)
        return True

    def open(self, start, end):
        """Have a chunk mapped for writing, in one go.

        A page that is mapped for reading is made writable by a fault of its own, which on ext4 looks at every
        block of the folio: tens of microseconds, if that is large. One that is not mapped yet brings the
        whole folio. So first nothing is mapped, which loses nothing.
        """
        linux.madvise(self.base + start, end - start, linux.MADV_DONTNEED)
        linux.madvise(self.base + start, end - start, MADV_POPULATE_WRITE)

    def note(self, writing, offset, length):
        """A system call found the pages, or brought them: from now on the chunk is worth asking about."""
        slot: cython.pointer[Slot] = enter(cython.address(self.gate), cython.address(self.lost))
        chunk: cython.pointer[Chunk]
        end: uint64_t = offset + length
        following: uint64_t
        era: uint16_t
        pages: uint64_t
        if slot == cython.NULL:
            return
        era = self.era(present_tick())
        while offset < end and end <= self.extent:
            chunk = self.chunks + (offset >> CHUNK_BITS)
            following = ((offset >> CHUNK_BITS) + 1) << CHUNK_BITS
            if following > end:
                following = end
            if chunk.resident == UNKNOWN:
                chunk.resident = SEEN
            if writing:
                if chunk.era != era:
                    chunk.era = era
                    chunk.writes = 0
                pages = chunk.writes + (following - offset + PAGE - 1) // PAGE
                if chunk.writes < CHUNK_PAGES:
                    chunk.writes = pages if pages < CHUNK_PAGES else CHUNK_PAGES
            offset = following
        leave(slot)

    def era(self, tick):
        if self.in_memory:
            return 0
        return (tick >> ERA_BITS) + atomic.load_int(cython.address(self.flushes), atomic.RELAXED)

    def drop(self, offset, length):
        """Know nothing about these bytes any more."""
        slot: cython.pointer[Slot] = enter(cython.address(self.gate), cython.address(self.lost))
        index: uint64_t = offset >> CHUNK_BITS
        end: uint64_t = offset + length
        if slot == cython.NULL:
            return
        if end > self.mapped:
            end = self.mapped
        while index << CHUNK_BITS < end:
            self.chunks[index].resident = UNKNOWN
            self.chunks[index].writes = 0
            index += 1
        leave(slot)

    def forget(self):
        """Let every proof be out of date."""
        atomic.add_int(cython.address(self.forgotten), 2, atomic.RELAXED)

    def watch(self, slot):
        """A major fault of this thread says that pages are being taken away."""
        usage = cython.declare(linux.Rusage)
        thread: uint64_t = pthread_self()
        slot.untold = WATCH
        if linux.getrusage(linux.RUSAGE_THREAD, cython.address(usage)) != 0:
            return
        if slot.owner == thread and usage.ru_majflt != slot.faults:
            self.forget()
        slot.owner = thread
        slot.faults = usage.ru_majflt

    def measure(self):
        """Look how large the file is, which anyone may change."""
        status = cython.declare(linux.Stat)
        size: uint64_t = 0
        if linux.fstat(self.fd, cython.address(status)) == 0:
            size = status.st_size
        if size > self.mapped:
            size = self.mapped
        if size != self.extent:
            atomic.store_u64(cython.address(self.extent), size, atomic.RELAXED)
            self.forget()

    # What takes its time.

    def begin(self, operation, segments, count, offset, length):
        if atomic.load_int(cython.address(self.lost), atomic.RELAXED) != 0:
            return -1  # mending waits for others
        if operation == FLUSH:
            atomic.add_int(cython.address(self.flushes), 1, atomic.RELAXED)
        elif operation in (DISCARD, ZERO):
            self.drop(offset, length)
        return FileBackend.begin(self, operation, segments, count, offset, length)

    def end(self, operation, offset, length):
        if operation in (DISCARD, ZERO):
            self.drop(offset, length)

    def read(self, segments, count, offset, length):
        if atomic.load_int(cython.address(self.lost), atomic.RELAXED) != 0:
            self.mend()
        return FileBackend.read(self, segments, count, offset, length)

    def write(self, segments, count, offset, length, durable):
        if atomic.load_int(cython.address(self.lost), atomic.RELAXED) != 0:
            self.mend()
        return FileBackend.write(self, segments, count, offset, length, durable)

    def flush(self):
        atomic.add_int(cython.address(self.flushes), 1, atomic.RELAXED)
        return FileBackend.flush(self)

    def discard(self, offset, length):
        self.drop(offset, length)
        result: cython.int = FileBackend.discard(self, offset, length)
        self.drop(offset, length)
        return result

    def zero(self, offset, length, unmap):
        self.drop(offset, length)
        result: cython.int = FileBackend.zero(self, offset, length, unmap)
        self.drop(offset, length)
        return result
