"""The I/O TLB of a device behind an IOMMU (ACCESS_PLATFORM): which I/O addresses are known, and as what."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from virtio.errors import AddressError
from virtio.memory.table import GuestMemory, Mapping

__all__ = ["Iotlb", "IotlbEntry"]


@dataclass(frozen=True, slots=True)
class IotlbEntry:
    """``size`` bytes at I/O virtual address ``address`` are those at the front-end's ``user_address``."""

    address: int
    size: int
    user_address: int
    readable: bool = True
    writable: bool = True

    @property
    def end(self) -> int:
        """The first address after the entry."""
        return self.address + self.size


class Iotlb:
    """Translations from I/O virtual addresses, made into :class:`GuestMemory` snapshots.

    ``memory`` is the guest's whole memory, where front-end addresses are looked up. Each change is followed
    by :meth:`snapshot`, which is what queues are given; a queue that meets an unknown address (or one it
    may not access that way) stops with a miss and goes on once it has a snapshot that knows it.
    """

    def __init__(self, memory: GuestMemory) -> None:
        self.memory = memory
        self._entries: list[IotlbEntry] = []

    @property
    def entries(self) -> tuple[IotlbEntry, ...]:
        """What is known, ascending by address."""
        return tuple(self._entries)

    def update(
        self, address: int, size: int, user_address: int, *, readable: bool = True, writable: bool = True
    ) -> None:
        """Learn a translation; it replaces what was known about these addresses.

        Raises AddressError when the range is impossible or is not in the guest's memory.
        """
        entry = IotlbEntry(address, size, user_address, readable, writable)
        if size <= 0 or address < 0 or entry.end > 1 << 64:
            raise AddressError(f"an I/O TLB entry of {size:#x} bytes at {address:#x} cannot be")
        self._parts(entry)
        self.invalidate(address, size)
        self._entries.insert(bisect_left(self._entries, address, key=lambda known: known.address), entry)

    def invalidate(self, address: int, size: int) -> None:
        """Forget what is known about a range. An entry that only overlaps it is cut."""
        end = address + size
        kept: list[IotlbEntry] = []
        for entry in self._entries:
            if entry.address < address:
                kept.append(_cut(entry, entry.address, min(entry.end, address)))
            if entry.end > end:
                kept.append(_cut(entry, max(entry.address, end), entry.end))
        self._entries = kept

    def snapshot(self) -> GuestMemory:
        """What is known now, as a memory whose addresses are I/O virtual ones."""
        parts = [part for entry in self._entries for part in self._parts(entry)]
        return self.memory.translated(parts)

    def _parts(self, entry: IotlbEntry) -> list[Mapping]:
        """The pieces of guest memory behind an entry, which may lie in several regions."""
        parts = []
        done = 0
        while done < entry.size:
            user = entry.user_address + done
            mapping = self._mapping(user)
            offset = user - mapping.user_address
            size = min(mapping.size - offset, entry.size - done)
            part = mapping.part(
                offset,
                size,
                guest_address=entry.address + done,
                readable=entry.readable,
                writable=entry.writable,
            )
            parts.append(part)
            done += size
        return parts

    def _mapping(self, user_address: int) -> Mapping:
        for mapping in self.memory.regions:
            if 0 <= user_address - mapping.user_address < mapping.size:
                return mapping
        raise AddressError(f"front-end address {user_address:#x} is in no memory region")


def _cut(entry: IotlbEntry, begin: int, end: int) -> IotlbEntry:
    """The part of an entry from ``begin`` to ``end``."""
    user = entry.user_address + begin - entry.address
    return IotlbEntry(begin, end - begin, user, entry.readable, entry.writable)
