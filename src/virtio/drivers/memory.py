"""The memory a driver shares with its device: an arena on memfds, and the buffers cut from it."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from virtio.closing import Closing
from virtio.drivers.buddy import BuddyAllocator
from virtio.errors import ArenaExhaustedError, HostError, UsageError
from virtio.memory import GuestMemory, Mapping

__all__ = ["Arena", "Buffer", "SharedRegion"]

GUEST_BASE = 1 << 30  # first device address; aligned for any page size
USER_OFFSET = 0x7E00_0000_0000  # what vhost-user's "user address" adds to a device address
HUGE_PAGE = 2 << 20
LARGEST_REGION = 1 << 40


@dataclass(frozen=True, slots=True)
class SharedRegion:
    """One piece of the arena as a transport hands it to the device. ``fd`` stays the arena's."""

    guest_address: int
    size: int
    user_address: int
    fd: int


class Buffer:
    """A piece of device-visible memory: ``view`` for us, ``address`` for the device.

    Free it (or use it as a context manager) once no request uses it any more; a view that outlives its
    buffer stays readable but may be given to somebody else.
    """

    __slots__ = ("_arena", "address", "freed", "view")

    def __init__(self, arena: Arena, address: int, view: memoryview) -> None:
        self._arena = arena
        self.freed = False
        self.address = address
        self.view = view

    def __len__(self) -> int:
        return len(self.view)

    def __enter__(self) -> Buffer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.free()

    def slice(self, start: int, length: int) -> tuple[int, int]:
        """Device address and length of a part, as a queue wants it; UsageError beyond the end."""
        if start < 0 or length < 0 or start + length > len(self.view):
            raise UsageError(f"bytes {start} to {start + length} are not in a buffer of {len(self.view)}")
        return self.address + start, length

    def free(self) -> None:
        """Give the memory back to the arena. Freeing twice is harmless."""
        self._arena.release(self)


class _Region:
    """One memfd of the arena."""

    def __init__(self, guest_address: int, size: int, *, hugepages: bool) -> None:
        self.fd = _memfd(size, hugepages=hugepages)
        self.shared = SharedRegion(guest_address, size, guest_address + USER_OFFSET, self.fd)
        self.mapping = Mapping.from_fd(
            self.fd, size, guest_address=guest_address, user_address=guest_address + USER_OFFSET
        )
        self.blocks = BuddyAllocator(size)
        self.bytes = memoryview(b"")


class Arena(Closing):
    """Memory shared with one device, cut into buffers.

    ``size`` is rounded up to a power of two. Pages are only taken from the machine once they are touched.
    With ``share``, a full arena grows by another region of the same size, which is handed to ``share`` before
    any of it is used; without, or when ``share`` refuses, ArenaExhaustedError is raised. Thread-safe.
    """

    def __init__(
        self,
        size: int = 64 << 20,
        *,
        hugepages: bool = False,
        share: Callable[[SharedRegion], bool] | None = None,
    ) -> None:
        if not 1 <= size <= LARGEST_REGION:
            raise UsageError(f"an arena of {size} bytes: choose 1 byte to 1 TiB")
        smallest = HUGE_PAGE if hugepages else mmap.PAGESIZE
        self._size = max(smallest, 1 << (size - 1).bit_length())
        self._hugepages = hugepages
        self._share = share
        self._lock = threading.Lock()
        self._regions: list[_Region] = []
        self.memory = GuestMemory([])
        self._add_region(_Region(GUEST_BASE, self._size, hugepages=hugepages))

    @property
    def regions(self) -> list[SharedRegion]:
        """What the device has to be told of before it can follow any address from here."""
        return [region.shared for region in self._regions]

    @property
    def free_bytes(self) -> int:
        """Bytes not handed out; fragmentation may keep them from being one buffer."""
        return sum(region.blocks.free_bytes for region in self._regions)

    def allocate(self, size: int) -> Buffer:
        """A buffer of ``size`` bytes, aligned to the next power of two, content undefined."""
        if size < 1:
            raise UsageError(f"a buffer of {size} bytes")
        with self._lock:
            for region in self._regions:
                offset = region.blocks.allocate(size)
                if offset is not None:
                    return self._buffer(region, offset, size)
            region = self._grow(size)
            offset = region.blocks.allocate(size)
            assert offset is not None
            return self._buffer(region, offset, size)

    def release(self, buffer: Buffer) -> None:
        """Take a buffer back; `Buffer.free` calls this."""
        with self._lock:
            if buffer.freed:
                return
            buffer.freed = True
            for region in self._regions:
                if 0 <= buffer.address - region.shared.guest_address < region.shared.size:
                    region.blocks.release(buffer.address - region.shared.guest_address)

    def set_share(self, share: Callable[[SharedRegion], bool] | None) -> None:
        """From now on grow by handing new regions to ``share``, or no longer grow."""
        self._share = share

    def close(self) -> None:
        """Close the file descriptors. The memory goes when the last view of it does."""
        for region in self._regions:
            if region.fd >= 0:
                os.close(region.fd)
                region.fd = -1

    def _buffer(self, region: _Region, offset: int, size: int) -> Buffer:
        return Buffer(self, region.shared.guest_address + offset, region.bytes[offset : offset + size])

    def _grow(self, size: int) -> _Region:
        if self._share is None:
            raise ArenaExhaustedError(
                f"no {size} bytes left in {self._size} bytes of shared memory, and the device takes no more"
            )
        last = self._regions[-1].shared
        room = max(self._size, 1 << (size - 1).bit_length())
        start = -(-(last.guest_address + last.size) // room) * room
        region = _Region(start, room, hugepages=self._hugepages)
        try:
            taken = self._share(region.shared)
        except BaseException:
            os.close(region.fd)
            raise
        if not taken:
            os.close(region.fd)
            raise ArenaExhaustedError(
                f"no {size} bytes left in {len(self._regions)} regions of shared memory, "
                "and the device refuses another"
            )
        self._add_region(region)
        return region

    def _add_region(self, region: _Region) -> None:
        self.memory = self.memory.add(region.mapping)
        region.bytes = self.memory.view(region.shared.guest_address, region.shared.size)
        self._regions.append(region)


def _memfd(size: int, *, hugepages: bool) -> int:
    flags = os.MFD_CLOEXEC | (os.MFD_HUGETLB if hugepages else 0)
    try:
        fd = os.memfd_create("virtio-driver", flags)
    except OSError as error:
        raise HostError(f"cannot make shared memory: {error.strerror}") from error
    try:
        os.ftruncate(fd, size)
        if hugepages:
            os.posix_fallocate(fd, 0, size)  # too few huge pages shows here, not as SIGBUS later
    except OSError as error:
        os.close(fd)
        what = "huge pages" if hugepages else "shared memory"
        raise HostError(f"cannot reserve {size} bytes of {what}: {error.strerror}") from error
    return fd
