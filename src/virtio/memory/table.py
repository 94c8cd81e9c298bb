"""Guest memory: files mapped here, and the table in which every address of the driver's is looked up.

``Mapping`` is one file's bytes, ``GuestMemory`` an immutable set of them. Adding, removing or logging makes
another ``GuestMemory`` that shares the mappings; a mapping is undone when nothing refers to it any more,
memoryviews included.
"""

import os
import stat
from collections.abc import Sequence
from itertools import pairwise

import cython
from cython.cimports.cpython.buffer import PyBuffer_FillInfo
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.libc.errno import errno
from cython.cimports.libc.stdint import uint8_t, uint64_t
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.libc.string import memcpy
from cython.cimports.posix.mman import MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap
from cython.cimports.virtio.memory.atomic import RELAXED, load_int, or_u8
from cython.cimports.virtio.memory.filesystem import HUGETLBFS_MAGIC, fstatfs, statfs_t
from cython.cimports.virtio.memory.guard import guard_losses, guard_register, guard_release

from virtio.errors import AddressError, RegionError

__all__ = ["GuestMemory", "Mapping", "Window"]

_TOP = 1 << 64


def _page_size(fd: cython.int) -> int:
    """Bytes in a page of the file's mappings: the huge page's on hugetlbfs."""
    info: statfs_t
    if fstatfs(fd, cython.address(info)) == 0 and info.f_type == HUGETLBFS_MAGIC:
        return info.f_bsize
    return os.sysconf("SC_PAGESIZE")


def _check_region(size: int, offset: int, *addresses: int) -> None:
    """Refuse what cannot be a region at all."""
    if size <= 0:
        raise RegionError(f"a memory region of {size} bytes")
    if min(offset, *addresses) < 0 or max(size, offset, *addresses) >= _TOP:
        raise RegionError(f"a memory region's numbers do not fit in 64 bits: {size=} {offset=}")
    for address in (offset, *addresses):
        if address + size > _TOP:
            raise RegionError(f"a memory region of {size:#x} bytes at {address:#x} passes 2**64")


def _check_file(fd: int, size: int, offset: int) -> None:
    """Refuse a region that reaches beyond the end of its file: touching it would raise SIGBUS."""
    try:
        status = os.fstat(fd)
    except OSError as error:
        raise RegionError(f"file descriptor {fd} of a memory region: {error.strerror}") from error
    if stat.S_ISREG(status.st_mode) and offset + size > status.st_size:
        raise RegionError(
            f"a memory region needs bytes {offset:#x} to {offset + size:#x} of its file, "
            f"which has only {status.st_size:#x}"
        )


class Mapping:
    """One file descriptor's bytes mapped here, and the addresses others know them by.

    Made by :meth:`from_fd` or :meth:`part`. Reads and writes through the buffer protocol are possible:
    ``memoryview(mapping)``.
    """

    def __init__(self) -> None:
        raise TypeError("use Mapping.from_fd")

    @staticmethod
    def from_fd(
        fd: int,
        size: int,
        *,
        offset: int = 0,
        guest_address: int = 0,
        user_address: int = 0,
        writable: bool = True,
    ) -> "Mapping":
        """Map ``size`` bytes of ``fd`` from ``offset`` on, neither of which need be page-aligned.

        The descriptor stays the caller's and may be closed afterwards. Raises RegionError when the file is
        shorter, the numbers are impossible or the kernel refuses.
        """
        _check_region(size, offset, guest_address, user_address)
        _check_file(fd, size, offset)
        mapping: Mapping = Mapping.__new__(Mapping)
        mapping.guest_address = mapping.physical_address = guest_address
        mapping.user_address = user_address
        mapping.size = size
        mapping.offset = offset
        mapping.readable = True
        mapping.writable = writable
        mapping.page_size = _page_size(fd)
        mapping.map(fd, offset // mapping.page_size * mapping.page_size)
        return mapping

    def map(self, fd: cython.int, begin: uint64_t) -> cython.int:
        """Map from the page below our first byte to the page above our last."""
        lead: uint64_t = self.offset - begin
        pages: object = -(-(int(lead) + int(self.size)) // int(self.page_size))
        length: uint64_t = pages * self.page_size
        protection: cython.int = PROT_READ | PROT_WRITE if self.writable else PROT_READ
        base: cython.p_void = mmap(cython.NULL, length, protection, MAP_SHARED, fd, begin)
        if base == MAP_FAILED:
            raise RegionError(f"cannot map {int(length):#x} bytes of a memory region: {os.strerror(errno)}")
        self.base = cython.cast(cython.p_char, base)
        self.mapped = length
        self.host = self.base + lead
        self.fault = cython.address(self.fault_flag)
        self.guard = guard_register(base, length, self.page_size, self.fault)
        return 0

    def __dealloc__(self) -> None:
        if self.guard != cython.NULL:
            guard_release(self.guard)
        if self.base != cython.NULL:
            munmap(self.base, self.mapped)

    @property
    def faulted(self) -> bool:
        """Whether a page of the file vanished while it was mapped; it reads as zeros since."""
        return load_int(self.fault, RELAXED) != 0

    def part(
        self, offset: int, size: int, *, guest_address: int, readable: bool = True, writable: bool = True
    ) -> "Mapping":
        """Some of this mapping under another guest address, as an I/O TLB entry sees it.

        What the whole may not, its part may not either. Raises RegionError when the part reaches outside.
        """
        _check_region(size, offset, guest_address)
        if offset + size > self.size:
            raise RegionError(f"bytes {offset:#x} to {offset + size:#x} of a region of {self.size:#x}")
        part: Mapping = Mapping.__new__(Mapping)
        part.owner = self
        part.guest_address = guest_address
        part.user_address = (self.user_address + offset) % _TOP
        part.physical_address = self.physical_address + offset
        part.offset = self.offset + offset
        part.size = size
        part.page_size = self.page_size
        part.readable = self.readable and readable
        part.writable = self.writable and writable
        part.host = self.host + cython.cast(uint64_t, offset)
        part.fault = self.fault
        return part

    def __getbuffer__(self, buffer: cython.pointer[Py_buffer], flags: cython.int):
        PyBuffer_FillInfo(buffer, self, self.host, self.size, not self.writable, flags)

    def __repr__(self) -> str:
        access = "rw" if self.writable else "ro"
        return f"<Mapping {self.guest_address:#x}+{self.size:#x} {access}>"


class Window:
    """Some bytes of guest memory as a buffer: they stay mapped as long as a view of them exists."""

    def __init__(self) -> None:
        raise TypeError("use GuestMemory.view")

    def __getbuffer__(self, buffer: cython.pointer[Py_buffer], flags: cython.int):
        PyBuffer_FillInfo(buffer, self, self.host, self.length, not self.writable, flags)


def _ordered(regions: Sequence[Mapping]) -> tuple:
    """By guest address; regions that overlap are refused."""
    ordered = tuple(sorted(regions, key=lambda region: region.guest_address))
    for below, above in pairwise(ordered):
        if below.guest_address + below.size > above.guest_address:
            raise RegionError(f"memory regions overlap: {below!r} and {above!r}")
    return ordered


class GuestMemory:
    """An immutable table of mappings, none overlapping: what the driver's addresses mean.

    With ``iotlb`` an address outside every region is not an error but not yet known (see
    :class:`virtio.memory.Iotlb`).
    """

    def __init__(self, regions: Sequence[Mapping] = (), *, iotlb: bool = False) -> None:
        if self.table.regions != cython.NULL:
            raise TypeError("a GuestMemory never changes")
        self.regions = _ordered(regions)
        self.table.losses = guard_losses()
        self.table.iotlb = iotlb
        self.table.regions = cython.cast(
            cython.pointer[Region], calloc(len(self.regions) + 1, cython.sizeof(Region))
        )
        if self.table.regions == cython.NULL:
            raise MemoryError
        mapping: Mapping
        for mapping in self.regions:
            region: cython.pointer[Region] = cython.address(self.table.regions[self.table.count])
            region.guest = mapping.guest_address
            region.size = mapping.size
            region.user = mapping.user_address
            region.physical = mapping.physical_address
            region.host = mapping.host
            region.faulted = mapping.fault
            region.readable = mapping.readable
            region.writable = mapping.writable
            self.table.count += 1

    def __dealloc__(self) -> None:
        free(self.table.regions)

    @property
    def faulted(self) -> bool:
        """Whether a page of a region or of the dirty log vanished: a truncated or unreadable file."""
        return any_faulted(cython.address(self.table))

    @property
    def iotlb(self) -> bool:
        """Whether an unknown address is a miss to be resolved rather than an error."""
        return self.table.iotlb

    @property
    def logging(self) -> bool:
        """Whether writes are recorded in a dirty log."""
        return self.table.log != cython.NULL

    def add(self, mapping: Mapping) -> "GuestMemory":
        """This memory with one more region; RegionError if it overlaps another."""
        return self._with_regions((*self.regions, mapping))

    def remove(self, guest_address: int, size: int, user_address: int) -> "GuestMemory":
        """This memory without the region of exactly these numbers; AddressError if there is none."""
        wanted = (guest_address, size, user_address)
        rest = [m for m in self.regions if (m.guest_address, m.size, m.user_address) != wanted]
        if len(rest) == len(self.regions):
            raise AddressError(f"no memory region at {guest_address:#x} of {size:#x} bytes to remove")
        return self._with_regions(rest)

    def translated(self, regions: Sequence[Mapping]) -> "GuestMemory":
        """The same memory and dirty log seen through an I/O TLB of which ``regions`` are the entries."""
        return self._logging_alike(GuestMemory(regions, iotlb=True))

    def _with_regions(self, regions: Sequence[Mapping]) -> "GuestMemory":
        return self._logging_alike(GuestMemory(regions, iotlb=self.iotlb))

    def _logging_alike(self, changed: "GuestMemory") -> "GuestMemory":
        changed.dirty_log = self.dirty_log
        changed.table.log = self.table.log
        changed.table.log_size = self.table.log_size
        changed.table.log_faulted = self.table.log_faulted
        return changed

    def with_log(self, fd: int | None, size: int = 0, offset: int = 0) -> "GuestMemory":
        """This memory recording what the device writes: one bit a 4 KiB page, in a bitmap shared through fd.

        ``size`` is the bitmap's in bytes; pages beyond its end go unrecorded. None ends the recording.
        """
        changed: GuestMemory = GuestMemory(self.regions, iotlb=self.iotlb)
        if fd is not None:
            changed.dirty_log = Mapping.from_fd(fd, size, offset=offset)
            changed.table.log = cython.cast(cython.pointer[uint8_t], changed.dirty_log.host)
            changed.table.log_size = size
            changed.table.log_faulted = changed.dirty_log.fault
        return changed

    def user_to_guest(self, user_address: int) -> int:
        """Translate a front-end process's virtual address; AddressError if it is in no region."""
        for mapping in self.regions:
            if 0 <= user_address - mapping.user_address < mapping.size:
                return mapping.guest_address + user_address - mapping.user_address
        raise AddressError(f"front-end address {user_address:#x} is in no memory region")

    def view(self, address: int, length: int) -> memoryview:
        """The bytes themselves, without copying; AddressError unless they lie in one region.

        What is written through the view is not recorded in a dirty log.
        """
        region: cython.pointer[Region] = self.region_of(address, length)
        if address + length > int(region.guest) + int(region.size):
            raise AddressError(f"{length:#x} bytes at {address:#x} lie in more than one memory region")
        host: cython.p_char = region.host + (cython.cast(uint64_t, address) - region.guest)
        return self.window(host, length, region.writable)

    def window(self, host: cython.p_char, length: uint64_t, writable: cython.bint):
        window: Window = Window.__new__(Window)
        window.memory = self
        window.host = host
        window.length = length
        window.writable = writable
        return memoryview(window)

    def read(self, address: int, length: int) -> bytes:
        """Copy out, across regions too; AddressError if any byte lies outside guest memory."""
        self.region_of(address, length)
        self.copy(address, cython.NULL, length, False)
        data = PyBytes_FromStringAndSize(cython.NULL, length)
        self.copy(address, PyBytes_AS_STRING(data), length, False)
        return data

    def write(self, address: int, data: bytes) -> None:
        """Copy in, across regions too; all of it or, with AddressError, nothing."""
        content = bytes(data)
        self.region_of(address, len(content))
        self.copy(address, cython.NULL, len(content), True)
        self.copy(address, PyBytes_AS_STRING(content), len(content), True)

    def region_of(self, address: uint64_t, length: uint64_t) -> cython.pointer[Region]:
        """The region where a range begins; AddressError when it wraps or begins in none."""
        region: cython.pointer[Region] = locate(cython.address(self.table), address)
        if region == cython.NULL:
            raise AddressError(f"address {int(address):#x} is not guest memory")
        if length != 0 and address + (length - 1) < address:
            raise AddressError(f"{int(length):#x} bytes at {int(address):#x} pass 2**64")
        return region

    def copy(
        self, address: uint64_t, buffer: cython.p_char, length: uint64_t, write: cython.bint
    ) -> cython.int:
        """Copy out or in, region by region; with buffer NULL only check the range."""
        while length:
            region: cython.pointer[Region] = self.region_of(address, length)
            if write and not region.writable:
                raise AddressError(f"address {int(address):#x} is read-only guest memory")
            offset: uint64_t = address - region.guest
            run: uint64_t = min(region.size - offset, length)
            host: cython.p_char = region.host + offset
            if buffer != cython.NULL:
                if write:
                    memcpy(host, buffer, run)
                    if self.table.log != cython.NULL:
                        log_write(cython.address(self.table), host, run)
                else:
                    memcpy(buffer, host, run)
                buffer += run
            address += run
            length -= run
        return 0

    def __repr__(self) -> str:
        return f"<GuestMemory {', '.join(map(repr, self.regions))}>"


def search(table: cython.pointer[cython.const[Table]], address: uint64_t) -> cython.pointer[Region]:
    """Binary search, for I/O TLBs of many entries."""
    low: cython.int = 0
    high: cython.int = table.count
    while low < high:
        middle: cython.int = (low + high) // 2
        region: cython.pointer[Region] = cython.address(table.regions[middle])
        if address - region.guest < region.size:
            return region
        if address < region.guest:
            high = middle
        else:
            low = middle + 1
    return cython.NULL


def any_faulted(table: cython.pointer[cython.const[Table]]) -> cython.bint:
    i: cython.int
    if table.log_faulted != cython.NULL and load_int(table.log_faulted, RELAXED):
        return True
    for i in range(table.count):  # noqa: SIM110 - no generators without the GIL
        if load_int(table.regions[i].faulted, RELAXED):
            return True
    return False


def log_write(
    table: cython.pointer[cython.const[Table]],
    host: cython.pointer[cython.const[cython.char]],
    length: uint64_t,
) -> cython.void:
    """Mark the 4 KiB pages of ``length`` bytes at ``host`` in the dirty log."""
    i: cython.int
    for i in range(table.count):
        if length == 0:
            return
        region: cython.pointer[Region] = cython.address(table.regions[i])
        offset: uint64_t = cython.cast(uint64_t, host) - cython.cast(uint64_t, region.host)
        if offset < region.size:
            run: uint64_t = min(region.size - offset, length)
            _mark(table, region.physical + offset, run)
            # Regions that follow one another here need not have neighbouring guest addresses.
            if run < length:
                log_write(table, host + run, length - run)
            return


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _mark(table: cython.pointer[cython.const[Table]], address: uint64_t, length: uint64_t) -> cython.void:
    page: uint64_t = address // LOG_PAGE
    last: uint64_t = (address + (length - 1)) // LOG_PAGE
    while page <= last and page // 8 < table.log_size:
        or_u8(cython.address(table.log[page // 8]), cython.cast(uint8_t, 1 << (page % 8)), RELAXED)
        page += 1
