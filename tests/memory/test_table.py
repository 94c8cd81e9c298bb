import os

import pytest

from virtio.errors import AddressError, RegionError, StorageError, VirtioError
from virtio.memory import GuestMemory, Mapping


def mappings_of(fd):
    """How many mappings of the file behind fd this process has."""
    inode = os.fstat(fd).st_ino
    with open("/proc/self/maps") as maps:
        return sum(1 for line in maps if int(line.split()[4]) == inode and "memfd:" in line)


def test_bytes_are_the_files(memfd):
    fd = memfd(0x3000)
    os.pwrite(fd, b"hello", 0x1000)
    memory = GuestMemory([Mapping.from_fd(fd, 0x2000, offset=0x1000, guest_address=0x80000000)])
    assert memory.read(0x80000000, 5) == b"hello"
    memory.write(0x80001000, b"there")
    assert os.pread(fd, 5, 0x2000) == b"there"


@pytest.mark.parametrize(("offset", "size"), [(1, 1), (4095, 2), (0x1234, 0x1111), (100, 0x3000 - 100)])
def test_neither_offset_nor_size_need_be_page_aligned(memfd, offset, size):
    fd = memfd(0x3000)
    content = bytes(i * 7 % 251 for i in range(0x3000))
    os.pwrite(fd, content, 0)
    memory = GuestMemory([Mapping.from_fd(fd, size, offset=offset, guest_address=0x77777)])
    assert memory.read(0x77777, size) == content[offset : offset + size]
    with pytest.raises(AddressError):
        memory.read(0x77777, size + 1)
    with pytest.raises(AddressError):
        memory.read(0x77776, 1)


@pytest.mark.parametrize(
    ("size", "options", "words"),
    [
        (0x2001, {}, "which has only 0x2000"),
        (0x2000, {"offset": 1}, "which has only 0x2000"),
        (1, {"offset": 2**64 - 1}, "which has only"),
        (2, {"offset": 2**64 - 1}, r"passes 2\*\*64"),
        (2, {"guest_address": 2**64 - 1}, r"passes 2\*\*64"),
        (0x1000, {"user_address": 2**64 - 1}, r"passes 2\*\*64"),
        (0, {}, "0 bytes"),
        (-1, {}, "-1 bytes"),
        (2**64, {}, "64 bits"),
        (1, {"offset": -1}, "64 bits"),
    ],
)
def test_a_region_that_cannot_be(memfd, size, options, words):
    with pytest.raises(RegionError, match=words):
        Mapping.from_fd(memfd(0x2000), size, **options)


def test_a_descriptor_that_cannot_be_mapped(tmp_path):
    read, write = os.pipe()
    with pytest.raises(RegionError, match="cannot map"):
        Mapping.from_fd(read, 0x1000)
    os.close(read)
    with pytest.raises(RegionError, match="Bad file descriptor"):
        Mapping.from_fd(read, 0x1000)
    os.close(write)


def test_read_only_files_map_read_only(tmp_path):
    path = tmp_path / "ram"
    path.write_bytes(b"content".ljust(0x1000))
    fd = os.open(path, os.O_RDONLY)
    with pytest.raises(RegionError, match="Permission denied"):
        Mapping.from_fd(fd, 0x1000)
    memory = GuestMemory([Mapping.from_fd(fd, 0x1000, writable=False)])
    os.close(fd)
    assert memory.read(0, 7) == b"content"
    assert memory.view(0, 7).readonly
    with pytest.raises(AddressError, match="read-only"):
        memory.write(0, b"x")


def test_ranges_cross_regions(region):
    memory = GuestMemory([region(0x1000, 0x2000), region(0x1000, 0x1000), region(0x1000, 0x4000)])
    memory.write(0x1FFC, b"abcdefgh")
    assert memory.read(0x1FFA, 12) == b"\0\0abcdefgh\0\0"
    with pytest.raises(AddressError, match="more than one"):
        memory.view(0x1FFC, 8)
    with pytest.raises(AddressError, match="0x3000"):
        memory.write(0x2FFC, b"abcdefgh")
    assert memory.read(0x2FFC, 4) == bytes(4)  # nothing was written of it
    with pytest.raises(AddressError, match="0x3000"):
        memory.read(0x1000, 0x4000)


@pytest.mark.parametrize("size", [1, 0x1000])
def test_a_region_may_end_at_the_top(region, size):
    memory = GuestMemory([region(size, 2**64 - size)])
    memory.write(2**64 - 1, b"!")
    assert memory.read(2**64 - 1, 1) == b"!"
    with pytest.raises(AddressError, match=r"pass 2\*\*64"):
        memory.read(2**64 - 1, 2)
    with pytest.raises(AddressError):
        memory.view(2**64 - 1, 2)


def test_nothing_is_found_in_no_memory():
    memory = GuestMemory()
    for call in (lambda: memory.read(0, 1), lambda: memory.view(0, 0), lambda: memory.user_to_guest(0)):
        with pytest.raises(AddressError):
            call()


@pytest.mark.parametrize("count", [1, 8, 9, 100])
def test_every_region_is_found(region, count):
    whole = region(0x1000)
    parts = [whole.part(16 * i, 16, guest_address=0x10000 + 32 * i) for i in range(count)]
    memory = GuestMemory(parts[::-1])
    for i in range(count):
        memory.write(0x10000 + 32 * i, bytes([i] * 16))
    assert bytes(memoryview(whole))[: 16 * count] == b"".join(bytes([i] * 16) for i in range(count))
    for i in range(count):
        for outside in (0x10000 + 32 * i - 1, 0x10000 + 32 * i + 16):
            with pytest.raises(AddressError):
                memory.read(outside, 1)


@pytest.mark.parametrize(
    ("address", "size"), [(0x1000, 0x1000), (0xFFF, 2), (0x1FFF, 1), (0, 0x10000), (0x1800, 8)]
)
def test_overlapping_regions_are_refused(region, address, size):
    memory = GuestMemory([region(0x1000, 0x1000)])
    with pytest.raises(RegionError, match="overlap"):
        memory.add(region(size, address))
    assert memory.add(region(0x1000, 0x2000)).read(0x1FFF, 2) == b"\0\0"


def test_remove_wants_exactly_the_region(region):
    first, second = region(0x1000, 0x1000, user_address=0x7000), region(0x1000, 0x2000)
    memory = GuestMemory([first, second])
    for wrong in [(0x1000, 0x1000, 0), (0x1000, 0x800, 0x7000), (0x3000, 0x1000, 0x7000)]:
        with pytest.raises(AddressError):
            memory.remove(*wrong)
    less = memory.remove(0x1000, 0x1000, 0x7000)
    assert less.regions == (second,)
    assert memory.regions == (first, second)


def test_user_addresses(region):
    memory = GuestMemory([region(0x1000, 0x1000, user_address=0x7F0000000000)])
    assert memory.user_to_guest(0x7F0000000FFF) == 0x1FFF
    for outside in (0x7F0000001000, 0x7EFFFFFFFFFF, 0):
        with pytest.raises(AddressError):
            memory.user_to_guest(outside)


def test_a_mapping_lasts_as_long_as_its_last_view(memfd):
    fd = memfd(0x1000)
    os.pwrite(fd, b"last", 0)
    memory = GuestMemory([Mapping.from_fd(fd, 0x1000)])
    assert mappings_of(fd) == 1
    view = memory.view(0, 4)
    part = view[1:3]
    other = GuestMemory().add(memory.regions[0].part(0, 2, guest_address=5))
    del memory, view
    assert bytes(part) == b"as"
    del part
    assert mappings_of(fd) == 1
    assert other.read(5, 2) == b"la"
    del other
    assert mappings_of(fd) == 0


def test_views_write_through(memfd):
    fd = memfd(0x1000)
    memory = GuestMemory([Mapping.from_fd(fd, 0x1000)])
    memory.view(0x10, 4)[:] = b"view"
    memoryview(memory.regions[0])[0x14:0x17] = b"map"
    assert os.pread(fd, 7, 0x10) == b"viewmap"


def test_mappings_and_memories_never_change(region):
    memory = GuestMemory([region(0x1000)])
    with pytest.raises(TypeError):
        memory.__init__([])
    with pytest.raises(TypeError):
        Mapping()
    with pytest.raises(RegionError):
        memory.regions[0].part(0xFFF, 2, guest_address=0)


def test_errors_are_the_peers_and_not_the_hosts():
    assert issubclass(RegionError, VirtioError)
    assert not issubclass(RegionError, StorageError)
    assert RegionError.exit_status == AddressError.exit_status == 3


# -- the dirty log


def bits(fd, size=16):
    data = os.pread(fd, size, 0)
    return [i for i in range(8 * size) if data[i // 8] >> (i % 8) & 1]


def test_writes_are_recorded(region, memfd):
    log = memfd(16)
    plain = GuestMemory([region(0x4000, 0x3000)])
    memory = plain.with_log(log, 16)
    assert (plain.logging, memory.logging) == (False, True)
    memory.read(0x3000, 0x4000)
    plain.write(0x3000, b"x")
    assert bits(log) == []
    memory.write(0x3FFF, b"xy")
    assert bits(log) == [3, 4]
    memory.write(0x6FFF, b"z")
    assert bits(log) == [3, 4, 6]
    assert not memory.with_log(None).logging


def test_the_log_keeps_others_bits_and_its_bounds(region, memfd):
    log = memfd(0x1000)
    os.pwrite(log, b"\xff\x02\x00\xee", 100)
    memory = GuestMemory([region(0x100000)]).with_log(log, 2, offset=101)
    memory.write(0, bytes(0x100000))  # 256 pages, 16 bits
    assert os.pread(log, 4, 100) == b"\xff\xff\xff\xee"


def test_a_changed_memory_goes_on_logging(region, memfd):
    log = memfd(16)
    memory = GuestMemory([region(0x1000)]).with_log(log, 16)
    more = memory.add(region(0x1000, 0x1000))
    more.write(0x0FFF, b"ab")
    assert bits(log) == [0, 1]
    os.pwrite(log, bytes(16), 0)
    more.remove(0, 0x1000, 0).write(0x1000, b"a")
    assert bits(log) == [1]


def test_a_log_longer_than_its_file(region, memfd):
    with pytest.raises(RegionError):
        GuestMemory([region(0x1000)]).with_log(memfd(16), 17)


def test_huge_pages():
    """On hugetlbfs a mapping begins and ends at huge pages, wherever its bytes do."""
    huge = 2 << 20
    fd = os.memfd_create("huge", os.MFD_HUGETLB | os.MFD_HUGE_2MB)
    try:
        os.ftruncate(fd, 2 * huge)
        memory = GuestMemory([Mapping.from_fd(fd, 0x3000, offset=huge - 0x1000, guest_address=0x5000)])
    except (RegionError, OSError) as error:
        pytest.skip(f"no huge pages here: {error}")
    finally:
        os.close(fd)
    assert memory.regions[0].page_size == huge
