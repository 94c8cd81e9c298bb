"""Wire layouts: sizes, byte order, and every round trip."""

import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtio.vhost_user import payloads as p
from virtio.vhost_user.layout import Structure

SIZES = {
    p.Header: 12,
    p.Number: 8,
    p.VringState: 8,
    p.VringFd: 8,
    p.VringAddress: 40,
    p.MemoryRegion: 32,
    p.SingleRegion: 40,
    p.Log: 16,
    p.Iotlb: 32,
    p.VringArea: 24,
    p.Inflight: 24,
    p.Uuid: 16,
    p.StateTransfer: 8,
    p.MMap: 40,
}


@pytest.mark.parametrize(
    ("structure", "size"), SIZES.items(), ids=lambda value: getattr(value, "__name__", "")
)
def test_sizes_are_those_of_the_c_structures(structure: type[Structure], size: int) -> None:
    assert structure.size == size


def test_every_structure_is_covered() -> None:
    assert set(SIZES) | {p.Structure} == {
        value for value in vars(p).values() if isinstance(value, type) and issubclass(value, Structure)
    }


def test_fields_follow_each_other_in_native_order() -> None:
    packed = p.VringAddress(1, 0, 0x1000, 0x3000, 0x2000, 7).pack()
    assert packed == struct.pack("=IIQQQQ", 1, 0, 0x1000, 0x3000, 0x2000, 7)
    assert p.Number(1).pack() == (1).to_bytes(8, sys.byteorder)


def test_padding_is_sent_as_zeros_and_ignored() -> None:
    region = p.SingleRegion(1, 2, 3, 4)
    assert region.pack() == bytes(8) + struct.pack("=4Q", 1, 2, 3, 4)
    assert p.SingleRegion.unpack(b"\xff" * 8 + region.pack()[8:]) == region
    assert p.Iotlb(1, 2, 3, 1, 2).pack()[-6:] == bytes(6)
    assert p.MMap(5, 1, 2, 3, 4).pack()[:8] == b"\x05" + bytes(7)


@pytest.mark.parametrize("structure", [*SIZES], ids=lambda value: value.__name__)
@given(data=st.data())
def test_round_trip(structure: type[Structure], data: st.DataObject) -> None:
    raw = data.draw(st.binary(min_size=structure.size, max_size=structure.size))
    value = structure.unpack(raw)
    assert structure.unpack(value.pack()) == value
    assert hash(structure.unpack(value.pack())) == hash(value)


@pytest.mark.parametrize("structure", [*SIZES], ids=lambda value: value.__name__)
def test_another_size_is_refused(structure: type[Structure]) -> None:
    for size in (0, structure.size - 1, structure.size + 1):
        with pytest.raises(ValueError, match="bytes"):
            structure.unpack(bytes(size))


def test_structures_are_values() -> None:
    state = p.VringState(index=1, num=2)
    assert state == p.VringState(1, 2)
    assert state != p.VringState(1, 3)
    assert state != p.Number(1)
    assert repr(state) == "VringState(index=0x1, num=0x2)"
    with pytest.raises(AttributeError):
        state.index = 5  # type: ignore[misc]
    with pytest.raises(TypeError, match="needs num"):
        p.VringState(1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="fields"):
        p.VringState(1, 2, 3)  # type: ignore[call-arg]
    assert p.VringAddress(0, 0, 0, 0, 0).log == 0


def test_vring_fd() -> None:
    assert (p.VringFd.of(3).index, p.VringFd.of(3).has_fd) == (3, True)
    assert (p.VringFd.of(255, False).index, p.VringFd.of(255, False).has_fd) == (255, False)


REGION = p.MemoryRegion(0x1000, 0x2000, 0x7F0000000000, 0)


def table_bytes(count: int, room: int) -> bytes:
    return struct.pack("=II", count, 0) + REGION.pack() * room


@pytest.mark.parametrize("room", range(1, 9))
def test_a_table_may_have_room_to_spare(room: int) -> None:
    assert p.MemoryTable.unpack(table_bytes(1, room)) == p.MemoryTable((REGION,))


def test_the_table_of_user_mode_linux() -> None:
    raw = table_bytes(1, 2)
    assert len(raw) == 72
    assert p.MemoryTable.unpack(raw).regions == (REGION,)


def test_our_own_table_has_no_room_to_spare() -> None:
    table = p.MemoryTable((REGION, REGION))
    assert table.pack() == table_bytes(2, 2)
    assert p.MemoryTable.unpack(table.pack()) == table


@pytest.mark.parametrize("raw", [b"", bytes(7), table_bytes(2, 1), table_bytes(9, 9), table_bytes(1, 9)])
def test_a_table_that_cannot_be(raw: bytes) -> None:
    with pytest.raises(ValueError, match="memory table"):
        p.MemoryTable.unpack(raw)


def test_config_space() -> None:
    access = p.ConfigSpace(4, b"abcd", 1)
    assert access.pack() == struct.pack("=III", 4, 4, 1) + b"abcd"
    assert p.ConfigSpace.unpack(access.pack()) == access


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        bytes(11),
        struct.pack("=III", 0, 5, 0) + bytes(4),
        struct.pack("=III", 0, 4, 0) + bytes(5),
        struct.pack("=III", 0xFFFFFFFF, 1, 0) + bytes(1),
        struct.pack("=III", 250, 7, 0) + bytes(7),
    ],
)
def test_a_config_access_that_cannot_be(raw: bytes) -> None:
    with pytest.raises(ValueError, match="configuration"):
        p.ConfigSpace.unpack(raw)


def test_shmem_sizes() -> None:
    sizes = p.ShmemSizes({0: 4096, 255: 1 << 40})
    assert len(sizes.pack()) == 8 + 256 * 8
    assert p.ShmemSizes.unpack(sizes.pack()) == sizes
    with pytest.raises(ValueError, match="announced"):
        p.ShmemSizes.unpack(struct.pack("=II", 1, 0) + bytes(2048))
    with pytest.raises(ValueError, match="bytes"):
        p.ShmemSizes.unpack(bytes(8))
