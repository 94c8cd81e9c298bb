import pytest

from virtio.errors import RING_FAULTS, RingAreaError, VirtioError, catalogue
from virtio.virtqueue import legacy_split_layout, packed_layout, split_layout
from virtio.virtqueue.faults import ring_error


@pytest.mark.parametrize("size", [1, 2, 256, 32768])
def test_split_sizes_are_the_specifications(size):
    layout = split_layout(size)
    assert (layout.descriptors, layout.driver_area, layout.device_area) == (
        16 * size,
        6 + 2 * size,
        6 + 8 * size,
    )
    table, driver, device = layout.addresses(0x1000)
    assert (table, driver % 2, device % 4) == (0x1000, 0, 0)
    assert table + layout.descriptors <= driver
    assert driver + layout.driver_area <= device
    assert device + layout.device_area == table + layout.total


def test_without_event_indexes_the_last_words_are_not_needed():
    layout = split_layout(8, event_idx=False)
    assert (layout.driver_area, layout.device_area) == (4 + 16, 4 + 64)


@pytest.mark.parametrize(
    ("size", "alignment", "device", "total"),
    [(256, 4096, 8192, 12288), (8, 4096, 4096, 8192), (1024, 4096, 20480, 32768), (8, 64, 192, 320)],
)
def test_legacy_sizes(size, alignment, device, total):
    layout = legacy_split_layout(size, alignment)
    assert (layout.driver_offset, layout.device_offset, layout.total) == (16 * size, device, total)


@pytest.mark.parametrize("size", [1, 7, 32768])
def test_packed_sizes(size):
    layout = packed_layout(size)
    assert (layout.descriptors, layout.driver_area, layout.device_area) == (16 * size, 4, 4)
    assert layout.addresses(64) == (64, 64 + 16 * size, 68 + 16 * size)
    assert layout.total == 16 * size + 8


@pytest.mark.parametrize("size", [-1, 0, 3, 32769, 65536])
def test_split_sizes_that_cannot_be(size):
    for layout in (split_layout, legacy_split_layout):
        with pytest.raises(RingAreaError, match=str(size)):
            layout(size)


@pytest.mark.parametrize("size", [-1, 0, 32769])
def test_packed_sizes_that_cannot_be(size):
    with pytest.raises(RingAreaError, match=str(size)):
        packed_layout(size)


@pytest.mark.parametrize("alignment", [0, 2, 3, 4097])
def test_legacy_alignments_that_cannot_be(alignment):
    with pytest.raises(RingAreaError, match=str(alignment)):
        legacy_split_layout(8, alignment)


@pytest.mark.parametrize("fault", RING_FAULTS)
def test_every_fault_has_its_error_and_a_message(fault):
    error = ring_error(fault, 0xABC, 8)
    assert type(error) is RING_FAULTS[fault]
    assert catalogue()[error.code] is type(error)
    assert "{" not in str(error)
    assert str(0xABC) in str(error) or "0xabc" in str(error) or fault == -16


def test_fault_classes_and_codes_are_all_different():
    assert len(set(RING_FAULTS.values())) == len(RING_FAULTS)
    assert len({error.code for error in RING_FAULTS.values()}) == len(RING_FAULTS)
    assert all(issubclass(error, VirtioError) for error in RING_FAULTS.values())
