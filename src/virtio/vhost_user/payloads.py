"""The payloads of vhost-user messages, declared field by field."""

from __future__ import annotations

from struct import Struct
from typing import ClassVar, Self, TypeAlias

from virtio.vhost_user.layout import U8, U16, U32, U64, Bytes16, Structure

__all__ = [
    "ConfigSpace",
    "Header",
    "Inflight",
    "Iotlb",
    "Log",
    "MMap",
    "MemoryRegion",
    "MemoryTable",
    "Number",
    "Opaque",
    "Payload",
    "ShmemSizes",
    "SingleRegion",
    "StateTransfer",
    "Uuid",
    "VringAddress",
    "VringArea",
    "VringFd",
    "VringState",
]


class Header(Structure):
    """What every message starts with, 12 bytes; `length` is the payload's."""

    request: U32
    flags: U32
    length: U32


class Number(Structure):
    """A single 64-bit value: features, an acknowledgement, a count."""

    value: U64


class VringState(Structure):
    """A ring's index and one number: its size, its position, whether it is enabled."""

    index: U32
    num: U32


class VringFd(Structure):
    """A ring's index (bits 0-7) and whether the descriptor is left out (bit 8: polling)."""

    value: U64

    NO_FD: ClassVar[int] = 1 << 8

    @property
    def index(self) -> int:
        """Which ring."""
        return self.value & 0xFF

    @property
    def has_fd(self) -> bool:
        """Whether an eventfd accompanies the message."""
        return not self.value & self.NO_FD

    @classmethod
    def of(cls, index: int, has_fd: bool = True) -> Self:
        """The payload for ring ``index``."""
        return cls(index if has_fd else index | cls.NO_FD)


class VringAddress(Structure):
    """Where a ring's three areas are; used comes before avail on the wire. Flag bit 0: log its writes."""

    index: U32
    flags: U32
    descriptors: U64
    used: U64
    avail: U64
    log: U64 = 0

    LOG: ClassVar[int] = 1


class MemoryRegion(Structure):
    """A run of guest memory: addresses as the guest and as the front-end name it, and where in the fd."""

    guest_address: U64
    length: U64
    user_address: U64
    mmap_offset: U64 = 0


class SingleRegion(MemoryRegion, padding={"": 8}):
    """One region, as ADD_MEM_REG and REM_MEM_REG carry it: after 8 bytes of padding."""


class Log(Structure):
    """Where the dirty log is in the descriptor that comes along, bytes."""

    length: U64
    mmap_offset: U64


class Iotlb(Structure, padding={"type": 6}):
    """An I/O address translation, its update, invalidation or miss."""

    iova: U64
    length: U64
    user_address: U64
    permission: U8
    type: U8

    MISS: ClassVar[int] = 1
    UPDATE: ClassVar[int] = 2
    INVALIDATE: ClassVar[int] = 3
    ACCESS_FAIL: ClassVar[int] = 4


class VringArea(Structure):
    """A ring's doorbell page: index and flags as in `VringFd`, bytes, offset in the descriptor."""

    value: U64
    length: U64
    offset: U64


class Inflight(Structure, padding={"queue_size": 4}):
    """The buffer that tracks requests in flight."""

    mmap_size: U64
    mmap_offset: U64
    queues: U16
    queue_size: U16


class Uuid(Structure):
    """Names a shared object."""

    uuid: Bytes16


class StateTransfer(Structure):
    """Direction (0 save, 1 load) and phase (0 stopped) of a device state transfer."""

    direction: U32
    phase: U32


class MMap(Structure, padding={"shmid": 7}):
    """A request to map a descriptor into a shared memory region."""

    shmid: U8
    fd_offset: U64
    shm_offset: U64
    length: U64
    flags: U64


class MemoryTable:
    """The whole of guest memory: up to 8 regions, each with a descriptor in the same order."""

    LIMIT: ClassVar[int] = 8
    _head: ClassVar[Struct] = Struct("=II")

    def __init__(self, regions: tuple[MemoryRegion, ...]) -> None:
        self.regions = regions

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MemoryTable) and self.regions == other.regions

    def __hash__(self) -> int:
        return hash(self.regions)

    def __repr__(self) -> str:
        return f"MemoryTable({self.regions!r})"

    def pack(self) -> bytes:
        """As bytes: only as many regions as there are."""
        return self._head.pack(len(self.regions), 0) + b"".join(region.pack() for region in self.regions)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read the table; ValueError if it is too short for its count.

        What follows the regions counted is ignored: User-Mode Linux sends room for two regions with one,
        others send all eight places always.
        """
        if len(data) < cls._head.size:
            raise ValueError(f"a memory table takes at least {cls._head.size} bytes, not {len(data)}")
        count = cls._head.unpack_from(data)[0]
        step = MemoryRegion.size
        if count > cls.LIMIT:
            raise ValueError(f"a memory table holds at most {cls.LIMIT} regions, not {count}")
        if not cls._head.size + count * step <= len(data) <= cls._head.size + cls.LIMIT * step:
            raise ValueError(f"a memory table of {count} regions cannot take {len(data)} bytes")
        starts = range(cls._head.size, cls._head.size + count * step, step)
        return cls(tuple(MemoryRegion.unpack(data[at : at + step]) for at in starts))


class ConfigSpace:
    """A piece of the device's configuration space: offset and bytes.

    ``flags`` of a write: 0 from the guest, 1 from a migration, which may set read-only fields too.
    """

    LIMIT: ClassVar[int] = 256
    MIGRATION: ClassVar[int] = 1
    _head: ClassVar[Struct] = Struct("=III")

    def __init__(self, offset: int, data: bytes, flags: int = 0) -> None:
        self.offset = offset
        self.data = data
        self.flags = flags

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConfigSpace) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        return f"ConfigSpace(offset={self.offset}, data={self.data!r}, flags={self.flags})"

    def _values(self) -> tuple[int, bytes, int]:
        return self.offset, self.data, self.flags

    def pack(self) -> bytes:
        """As bytes; the size field follows from the data."""
        return self._head.pack(self.offset, len(self.data), self.flags) + self.data

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read it; ValueError if its size field and its bytes disagree or it passes 256 bytes."""
        if len(data) < cls._head.size:
            raise ValueError(f"a configuration access takes at least {cls._head.size} bytes, not {len(data)}")
        offset, size, flags = cls._head.unpack_from(data)
        if size != len(data) - cls._head.size:
            raise ValueError(f"a configuration access of {size} bytes carries {len(data) - cls._head.size}")
        if offset + size > cls.LIMIT:
            raise ValueError(f"configuration space ends at {cls.LIMIT}, not {offset + size}")
        return cls(offset, data[cls._head.size :], flags)


class ShmemSizes:
    """The sizes of the device's shared memory regions by id; the wire always carries 256 places."""

    PLACES: ClassVar[int] = 256
    _wire: ClassVar[Struct] = Struct("=II256Q")

    def __init__(self, sizes: dict[int, int]) -> None:
        self.sizes = sizes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShmemSizes) and self.sizes == other.sizes

    def __hash__(self) -> int:
        return hash(tuple(sorted(self.sizes.items())))

    def __repr__(self) -> str:
        return f"ShmemSizes({self.sizes!r})"

    def pack(self) -> bytes:
        """As bytes."""
        places = [self.sizes.get(shmid, 0) for shmid in range(self.PLACES)]
        return self._wire.pack(len(self.sizes), 0, *places)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read them; ValueError unless the size and the count of regions are right."""
        if len(data) != cls._wire.size:
            raise ValueError(f"shared memory sizes take {cls._wire.size} bytes, not {len(data)}")
        count, _, *places = cls._wire.unpack(data)
        sizes = {shmid: size for shmid, size in enumerate(places) if size}
        if count != len(sizes):
            raise ValueError(f"{count} shared memory regions are announced, {len(sizes)} have a size")
        return cls(sizes)


class Opaque:
    """Bytes whose layout belongs to one device type (crypto sessions)."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and self.data == other.data

    def __hash__(self) -> int:
        return hash(self.data)

    def __repr__(self) -> str:
        return f"Opaque({self.data!r})"

    def pack(self) -> bytes:
        """The bytes."""
        return self.data

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Any bytes."""
        return cls(data)


Payload: TypeAlias = Structure | MemoryTable | ConfigSpace | ShmemSizes | Opaque
