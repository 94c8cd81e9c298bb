import pytest

from virtio.errors import AddressError
from virtio.memory import GuestMemory, Iotlb, IotlbEntry

USER = 0x7F0000000000


@pytest.fixture
def iotlb(region):
    memory = GuestMemory(
        [region(0x4000, 0x10000, user_address=USER), region(0x4000, 0x80000, user_address=USER + 0x4000)]
    )
    memory.write(0x10000, b"page 0")
    memory.write(0x12000, b"page 2")
    memory.write(0x80000, b"page 4")
    return Iotlb(memory)


def test_what_is_not_known_is_not_there(iotlb):
    assert iotlb.snapshot().iotlb
    with pytest.raises(AddressError):
        iotlb.snapshot().read(0x10000, 1)


def test_entries_become_memory(iotlb):
    iotlb.update(0x1000, 0x1000, USER + 0x2000)
    iotlb.update(0xF000000000000000, 0x1000, USER)
    snapshot = iotlb.snapshot()
    assert snapshot.read(0x1000, 6) == b"page 2"
    assert snapshot.read(0xF000000000000000, 6) == b"page 0"
    with pytest.raises(AddressError):
        snapshot.read(0x2000, 1)


def test_an_entry_over_two_regions(iotlb):
    iotlb.update(0, 0x8000, USER)
    assert iotlb.snapshot().read(0x2000, 6) == b"page 2"
    assert iotlb.snapshot().read(0x4000, 6) == b"page 4"
    assert len(iotlb.snapshot().regions) == 2


def test_snapshots_do_not_change(iotlb):
    iotlb.update(0, 0x1000, USER)
    before = iotlb.snapshot()
    iotlb.update(0, 0x1000, USER + 0x2000)
    assert before.read(0, 6) == b"page 0"
    assert iotlb.snapshot().read(0, 6) == b"page 2"


@pytest.mark.parametrize(
    ("begin", "end", "left"),
    [
        (0x1000, 0x4000, []),
        (0, 1 << 64, []),
        (0x1000, 0x2000, [(0x2000, 0x4000)]),
        (0x3000, 0x5000, [(0x1000, 0x3000)]),
        (0x2000, 0x3000, [(0x1000, 0x2000), (0x3000, 0x4000)]),
        (0x4000, 0x5000, [(0x1000, 0x4000)]),
        (0, 0x1000, [(0x1000, 0x4000)]),
    ],
)
def test_invalidation_cuts(iotlb, begin, end, left):
    iotlb.update(0x1000, 0x3000, USER)
    iotlb.invalidate(begin, end - begin)
    assert [(entry.address, entry.end) for entry in iotlb.entries] == left
    assert all(entry.user_address == USER + entry.address - 0x1000 for entry in iotlb.entries)


def test_an_update_replaces(iotlb):
    iotlb.update(0x1000, 0x3000, USER)
    iotlb.update(0x2000, 0x1000, USER + 0x4000, writable=False)
    assert iotlb.entries == (
        IotlbEntry(0x1000, 0x1000, USER),
        IotlbEntry(0x2000, 0x1000, USER + 0x4000, writable=False),
        IotlbEntry(0x3000, 0x1000, USER + 0x2000),
    )


@pytest.mark.parametrize(
    "entry",
    [(0, 0, USER), (-1, 1, USER), (2**64 - 1, 2, USER), (0, 0x1000, 0), (0, 0x8001, USER), (0, 1, USER - 1)],
)
def test_entries_that_cannot_be(iotlb, entry):
    iotlb.update(0, 0x1000, USER)
    with pytest.raises(AddressError):
        iotlb.update(*entry)
    assert len(iotlb.entries) == 1


def test_the_dirty_log_names_guest_physical_pages(iotlb, memfd):
    log = memfd(32)
    logging = Iotlb(iotlb.memory.with_log(log, 32))
    logging.update(0, 0x1000, USER + 0x4000)
    logging.snapshot().write(0x10, b"x")
    import os

    data = os.pread(log, 32, 0)
    assert [i for i in range(256) if data[i // 8] >> (i % 8) & 1] == [0x80]
