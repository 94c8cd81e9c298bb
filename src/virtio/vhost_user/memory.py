"""The memory a front-end shares: its messages into `GuestMemory`, and every way in which it may fail to."""

from __future__ import annotations

from virtio.errors import NotSharedError, ProtocolError, VirtioError
from virtio.memory import GuestMemory, Mapping
from virtio.vhost_user.payloads import Log, MemoryRegion, MemoryTable

__all__ = ["MAX_SLOTS", "add_region", "is_blank", "memory_of_table", "remove_region", "with_log"]

_HEAD = 4 << 20
"""Bytes of a region that are looked at to tell whether anyone ever wrote to it."""

_OUR_OWN = 4096
"""Bytes that the device's side of the rings may have written there; a guest writes far more."""

MAX_SLOTS = 509
"""Regions that ADD_MEM_REG may bring; what Linux's own vhost offers."""


def memory_of_table(table: MemoryTable, fds: list[int]) -> GuestMemory:
    """Map every region of a SET_MEM_TABLE. The descriptors stay the caller's.

    Raises NotSharedError if there are none or one cannot be mapped, ProtocolError for regions that overlap.
    """
    if not table.regions:
        raise NotSharedError("the front-end sent a memory table without regions: it shares no memory")
    if not fds:
        raise NotSharedError("the front-end sent a memory table without descriptors: its memory is private")
    return _built([_mapped(region, fd) for region, fd in zip(table.regions, fds, strict=True)])


def add_region(memory: GuestMemory, region: MemoryRegion, fd: int | None) -> GuestMemory:
    """The memory with the region of an ADD_MEM_REG. The descriptor stays the caller's."""
    if fd is None:
        raise NotSharedError("the front-end added memory without a descriptor: its memory is private")
    if len(memory.regions) >= MAX_SLOTS:
        raise ProtocolError(f"the front-end added more than {MAX_SLOTS} regions of memory")
    mapping = _mapped(region, fd)
    try:
        return memory.add(mapping)
    except (ValueError, VirtioError) as error:
        raise ProtocolError(f"ADD_MEM_REG: {error}") from error


def remove_region(memory: GuestMemory, region: MemoryRegion) -> GuestMemory:
    """The memory without the region of a REM_MEM_REG, matched by both addresses and the size."""
    try:
        return memory.remove(region.guest_address, region.length, region.user_address)
    except (KeyError, ValueError, VirtioError) as error:
        raise ProtocolError(
            f"REM_MEM_REG names {region.length:#x} bytes at {region.guest_address:#x}, which were never added"
        ) from error


def is_blank(memory: GuestMemory) -> bool:
    """Whether all regions begin with next to nothing but zeros, as the memory of no running guest does."""
    written = 0
    for region in memory.regions:
        head = memory.read(region.guest_address, min(region.size, _HEAD))
        written += len(head.translate(None, b"\0"))
    return written < _OUR_OWN


def with_log(memory: GuestMemory, log: Log, fd: int) -> GuestMemory:
    """The memory with its writes marked in the log of a SET_LOG_BASE. The descriptor stays the caller's."""
    try:
        return memory.with_log(fd, log.length, log.mmap_offset)
    except (OSError, ValueError, VirtioError) as error:
        raise ProtocolError(f"SET_LOG_BASE: the log cannot be mapped: {error}") from error


def _built(mappings: list[Mapping]) -> GuestMemory:
    try:
        return GuestMemory(mappings)
    except (ValueError, VirtioError) as error:
        raise ProtocolError(f"SET_MEM_TABLE: {error}") from error


def _mapped(region: MemoryRegion, fd: int) -> Mapping:
    where = f"{region.length:#x} bytes of guest memory at {region.guest_address:#x}"
    if not region.length or max(region.guest_address, region.user_address) + region.length > 1 << 64:
        raise ProtocolError(f"{where}: no such range")
    if region.mmap_offset + region.length >= 1 << 63:
        raise ProtocolError(f"{where}: no file has bytes at {region.mmap_offset:#x}")
    try:
        return Mapping.from_fd(
            fd,
            region.length,
            offset=region.mmap_offset,
            guest_address=region.guest_address,
            user_address=region.user_address,
            writable=True,
        )
    except (OSError, ValueError, VirtioError) as error:
        raise NotSharedError(
            f"{where} cannot be mapped from the descriptor that came with it: {error}"
        ) from error
