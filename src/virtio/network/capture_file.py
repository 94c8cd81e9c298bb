"""Reads captures: pcap and pcapng, of either byte order, from any stream of bytes.

>>> import io
>>> from virtio.network import pcapng
>>> file = pcapng.section_header("me") + pcapng.interface("nic") + pcapng.packet(bytes(60), 1_000)
>>> [type(record).__name__ for record in read(io.BytesIO(file))]
['Interface', 'Packet']
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

from virtio.errors import CaptureFileError
from virtio.network.pcapng import Block, Direction

__all__ = ["Interface", "Packet", "Record", "Statistics", "read"]

LONGEST_BLOCK = 16 << 20
"""Bytes; anything longer is damage, not a frame."""

PCAP_MAGICS = {
    b"\xd4\xc3\xb2\xa1": ("<", 10**6),
    b"\xa1\xb2\xc3\xd4": (">", 10**6),
    b"\x4d\x3c\xb2\xa1": ("<", 10**9),
    b"\xa1\xb2\x3c\x4d": (">", 10**9),
}
SECTION_MAGIC = b"\x0a\x0d\x0d\x0a"
BYTE_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}


@dataclass(frozen=True)
class Interface:
    """Where frames were captured. ``ticks`` of its stamps are a second; ``start`` seconds come on top."""

    link_type: int
    snaplen: int = 0
    name: str = ""
    ticks: int = 10**6
    start: int = 0

    def nanoseconds(self, stamp: int) -> int:
        """A stamp as nanoseconds since 1970."""
        return self.start * 10**9 + stamp * 10**9 // self.ticks


@dataclass(frozen=True)
class Packet:
    """One frame: ``data`` is at byte ``offset`` of the file, ``original`` its length before a cut."""

    interface: Interface
    time: int
    data: bytes
    original: int
    offset: int
    direction: Direction = Direction.UNKNOWN
    queue: int | None = None
    comments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Statistics:
    """Frames that an interface received, and those that the capture dropped; None: not said."""

    interface: Interface
    received: int | None = None
    dropped: int | None = None


Record = Interface | Packet | Statistics


def read(stream: BinaryIO, name: str = "the capture") -> Iterator[Record]:
    """What a capture holds, in its order. Raises CaptureFileError, which names the offset of the damage."""
    source = Source(stream, name)
    magic = source.take(4)
    if magic in PCAP_MAGICS:
        yield from _read_pcap(source, *PCAP_MAGICS[magic])
    elif magic == SECTION_MAGIC:
        yield from _read_pcapng(source)
    else:
        raise source.damage(0, "neither pcap nor pcapng starts so")


class Source:
    """A stream that knows how far it has been read."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.stream = stream
        self.name = name
        self.offset = 0

    def take(self, length: int) -> bytes:
        """Exactly so many bytes; CaptureFileError if there are fewer."""
        data = self.stream.read(length)
        if len(data) < length:
            raise self.damage(self.offset, f"{length} bytes belong here, and the file ends after {len(data)}")
        self.offset += length
        return data

    def take_or_end(self, length: int) -> bytes | None:
        """As `take`, but None at the end of the file."""
        start = self.stream.read(1)
        if not start:
            return None
        self.offset += 1
        return start + self.take(length - 1)

    def damage(self, offset: int, reason: str) -> CaptureFileError:
        """The error for something wrong at ``offset``."""
        return CaptureFileError(f"{self.name} is damaged at byte {offset}: {reason}")


def _read_pcap(source: Source, order: str, ticks: int) -> Iterator[Record]:
    _, _, _, _, snaplen, link_type = struct.unpack(order + "HHiIII", source.take(20))
    interface = Interface(link_type & 0xFFFF, snaplen, ticks=ticks)
    yield interface
    record = struct.Struct(order + "4I")
    while (head := source.take_or_end(16)) is not None:
        seconds, fraction, length, original = record.unpack(head)
        if length > LONGEST_BLOCK:
            raise source.damage(source.offset - 8, f"no frame has {length} bytes")
        offset = source.offset
        time = interface.nanoseconds(seconds * ticks + fraction)
        yield Packet(interface, time, source.take(length), original, offset)


@dataclass
class _Section:
    """What the blocks of a section share."""

    order: str
    interfaces: list[Interface] = field(default_factory=list)


def _read_pcapng(source: Source) -> Iterator[Record]:
    section = _start_section(source)
    while (kind := source.take_or_end(4)) is not None:
        if kind == SECTION_MAGIC:
            section = _start_section(source)
            continue
        block = BlockReader(source, section, int.from_bytes(kind, _name(section.order)))
        record = block.record()
        if isinstance(record, Interface):
            section.interfaces.append(record)
        if record is not None:
            yield record


def _name(order: str) -> Literal["little", "big"]:
    return "little" if order == "<" else "big"


def _start_section(source: Source) -> _Section:
    at = source.offset - 4
    length, magic = source.take(4), source.take(4)
    if magic not in BYTE_ORDERS:
        raise source.damage(at + 8, "no byte order begins a section so")
    section = _Section(BYTE_ORDERS[magic])
    size = int.from_bytes(length, _name(section.order))
    if size < 28 or size % 4 or size > LONGEST_BLOCK:
        raise source.damage(at + 4, f"a section's header cannot have {size} bytes")
    body = source.take(size - 16)
    if int.from_bytes(body[:2], _name(section.order)) != 1:
        raise source.damage(at + 12, "only version 1 of pcapng is known")
    _check_trailer(source, section.order, size)
    return section


def _check_trailer(source: Source, order: str, size: int) -> None:
    at = source.offset
    trailer = int.from_bytes(source.take(4), _name(order))
    if trailer != size:
        raise source.damage(at, f"a block of {size} bytes ends with the length {trailer}")


class BlockReader:
    """One block of a pcapng section, taken whole from the source."""

    def __init__(self, source: Source, section: _Section, kind: int) -> None:
        self.source = source
        self.section = section
        self.kind = kind
        self.start = source.offset - 4
        size = int.from_bytes(source.take(4), _name(section.order))
        if size < 12 or size % 4 or size > LONGEST_BLOCK:
            raise source.damage(self.start + 4, f"a block cannot have {size} bytes")
        self.body = source.take(size - 12)
        _check_trailer(source, section.order, size)

    def record(self) -> Record | None:
        """What the block says; None for those that nobody here needs."""
        readers = {
            Block.INTERFACE: self.interface,
            Block.PACKET: self.packet,
            Block.OLD_PACKET: self.old_packet,
            Block.SIMPLE_PACKET: self.simple_packet,
            Block.STATISTICS: self.statistics,
        }
        reader = readers.get(self.kind)  # type: ignore[call-overload]
        return reader() if reader else None

    def unpack(self, layout: str) -> tuple[int, ...]:
        """The fields that the body starts with."""
        layout = self.section.order + layout
        if len(self.body) < struct.calcsize(layout):
            raise self.source.damage(self.start, f"a block of type {self.kind} cannot be so short")
        return struct.unpack_from(layout, self.body)

    def number(self, value: bytes) -> int:
        """An option's value as a number."""
        return int.from_bytes(value, _name(self.section.order))

    def options(self, at: int) -> Iterator[tuple[int, bytes]]:
        """The options from byte ``at`` of the body on."""
        while at + 4 <= len(self.body):
            code, length = struct.unpack_from(self.section.order + "HH", self.body, at)
            if code == 0:
                return
            if at + 4 + length > len(self.body):
                raise self.source.damage(self.start + 8 + at, f"an option of {length} bytes passes its block")
            yield code, self.body[at + 4 : at + 4 + length]
            at += 4 + (length + 3) // 4 * 4

    def interface(self) -> Interface:
        """An Interface Description Block."""
        link_type, _, snaplen = self.unpack("HHI")
        name, ticks, start = "", 10**6, 0
        for code, value in self.options(8):
            if code == 2:
                name = value.decode(errors="replace")
            elif code == 9 and value:
                base = 2 if value[0] & 0x80 else 10
                ticks = base ** (value[0] & 0x7F)
            elif code == 14 and len(value) == 8:
                start = int.from_bytes(value, _name(self.section.order), signed=True)
        return Interface(link_type, snaplen, name, ticks, start)

    def owner(self, index: int) -> Interface:
        """The interface that a block names."""
        if index >= len(self.section.interfaces):
            raise self.source.damage(self.start + 8, f"no interface {index} has been described before")
        return self.section.interfaces[index]

    def data(self, at: int, length: int) -> bytes:
        """A frame in the body."""
        if at + length > len(self.body):
            raise self.source.damage(self.start + 8, f"a frame of {length} bytes passes its block")
        return self.body[at : at + length]

    def packet(self) -> Packet:
        """An Enhanced Packet Block."""
        index, high, low, length, original = self.unpack("5I")
        interface = self.owner(index)
        data = self.data(20, length)
        direction, queue, comments = Direction.UNKNOWN, None, []
        for code, value in self.options(20 + (length + 3) // 4 * 4):
            if code == 1:
                comments.append(value.decode(errors="replace"))
            elif code == 2:
                direction = Direction(self.number(value) & 3) if self.number(value) & 3 != 3 else direction
            elif code == 6:
                queue = self.number(value)
        time = interface.nanoseconds(high << 32 | low)
        offset = self.start + 28
        return Packet(interface, time, data, original, offset, direction, queue, tuple(comments))

    def old_packet(self) -> Packet:
        """The Packet Block of files from before 2012."""
        index, _, high, low, length, original = self.unpack("HHIIII")
        interface = self.owner(index)
        time = interface.nanoseconds(high << 32 | low)
        return Packet(interface, time, self.data(20, length), original, self.start + 28)

    def simple_packet(self) -> Packet:
        """A Simple Packet Block: interface 0, and no time."""
        (original,) = self.unpack("I")
        interface = self.owner(0)
        length = min(original, interface.snaplen) if interface.snaplen else original
        return Packet(interface, interface.nanoseconds(0), self.data(4, length), original, self.start + 12)

    def statistics(self) -> Statistics:
        """An Interface Statistics Block."""
        (index, _, _) = self.unpack("3I")
        found = {code: self.number(value) for code, value in self.options(12)}
        return Statistics(self.owner(index), found.get(4), found.get(5))
