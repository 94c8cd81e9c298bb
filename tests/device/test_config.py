"""Configuration space: fields, bytes, generations."""

import threading

import pytest

from virtio import spec
from virtio.device import ConfigSpace, Device
from virtio.errors import ConfigError, UsageError
from virtio.spec import blk
from virtio.spec.layout import Struct, le16, le32, le64, u8


class Layout(Struct, name="test"):
    first = le32()
    mode = u8()
    mac = u8(6)
    pair = le16(2)
    size = le64()


def make(**options):
    return ConfigSpace(Layout, writable=("mode", "mac"), **options)


def test_fields_are_packed_little_endian():
    config = make(first=0x11223344, mode=5, mac=b"\1\2\3\4\5\6", pair=(7, 8), size=9)
    assert len(config) == Layout.SIZE == 23
    assert config.read(0, 23).hex(" ", -4).replace(" ", "") == (
        "4433221105010203040506070008000900000000000000"
    )
    assert (config.first, config.mode, config.mac) == (0x11223344, 5, b"\1\2\3\4\5\6")
    assert (config.pair, config.size) == ((7, 8), 9)


def test_any_range_reads_as_of_an_endless_zero_filled_space():
    config = make(first=0xFFFFFFFF, mode=1, mac=b"abcdef", pair=(0x1234, 0x5678), size=(1 << 64) - 1)
    whole = config.read(0, 23) + bytes(64)
    for offset in range(26):
        for size in range(32):
            assert config.read(offset, size) == whole[offset : offset + size]


@pytest.mark.parametrize(("offset", "size"), [(-1, 4), (0, -1), (0, 1 << 20)])
def test_senseless_reads(offset, size):
    with pytest.raises(ConfigError):
        make().read(offset, size)


def test_cut_off_hides_the_rest():
    config = make(cut_off="pair", pair=(1, 2), mode=3)
    assert len(config) == 11
    assert config.read(11, 12) == bytes(12)
    assert config.pair == (1, 2)
    assert len(make(cut_off=5)) == 5
    assert len(make(cut_off=500)) == 23
    with pytest.raises(UsageError):
        make(cut_off="nothing")


def test_the_driver_writes_bytes_of_writable_fields():
    config = make()
    assert config.write(4, b"\x07") == ("mode",)
    assert config.write(4, b"\x07ab") == ("mac",)
    assert config.mode == 7
    assert config.write(8, b"xy") == ("mac",)
    assert config.mac == b"ab\0xy\0"
    assert config.write(8, b"xy") == ()
    assert config.generation == 0


@pytest.mark.parametrize(
    ("offset", "data"),
    [(0, b"x"), (3, b"xx"), (10, b"xx"), (22, b"xx"), (23, b"x"), (-1, b"x"), (1 << 70, b"x")],
)
def test_the_driver_may_not_write_elsewhere(offset, data):
    config = make(first=1)
    before = config.read(0, 23)
    with pytest.raises(ConfigError):
        config.write(offset, data)
    assert config.read(0, 23) == before


def test_migration_restores_every_field():
    config = make()
    assert config.write(0, bytes(range(23)), migration=True) == ("first", "mode", "mac", "pair", "size")
    assert config.read(0, 23) == bytes(range(23))


def test_changes_raise_the_generation_once_and_are_told():
    told = []
    config = make()
    config.listen(lambda: told.append(config.generation))
    config.first = 5
    config.update(first=6, size=7)
    config.update(first=6, size=7)
    assert told == [1, 2]
    assert config.assign(mode=1)
    assert not config.assign(mode=1)
    assert told == [1, 2]


@pytest.mark.parametrize(
    "values",
    [{"none": 1}, {"first": -1}, {"first": 1 << 32}, {"mac": b"1234567"}, {"pair": (1,)}, {"size": "x"}],
)
def test_what_does_not_fit_changes_nothing(values):
    config = make()
    with pytest.raises(UsageError):
        config.update(mode=9, **values)
    assert config.mode == 0
    assert config.generation == 0


def test_unknown_attributes():
    with pytest.raises(AttributeError, match="no field 'nothing'"):
        make().nothing  # noqa: B018
    with pytest.raises(UsageError):
        make().nothing = 1
    with pytest.raises(UsageError, match="no field 'typo'"):
        ConfigSpace(Layout, writable=("typo",))


def test_the_specification_s_layouts_serve():
    config = ConfigSpace(
        blk.Config, writable=("writeback",), capacity=2048, topology=blk.Topology(min_io_size=8)
    )
    assert config.topology.min_io_size == 8
    assert spec.blk.Config.unpack(config.read(0, len(config))).capacity == 2048
    assert config.write(blk.Config.writeback.offset, b"\1") == ("writeback",)


def test_each_device_has_its_own_copy():
    class Disk(Device):
        device_id = 2
        config = ConfigSpace(blk.Config, capacity=1)

    one, other = Disk(), Disk()
    one.set_config(capacity=5)
    assert (one.config.capacity, other.config.capacity, Disk.config.capacity) == (5, 1, 1)


def test_readers_never_see_half_an_update():
    config = make(first=0, size=0)
    stop = threading.Event()

    def change():
        n = 0
        while not stop.is_set():
            n = (n + 1) & 0xFFFFFFFF
            config.update(first=n, size=n)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(2000):
            data = config.read(0, 23)
            assert data[:4] == data[15:19]
    finally:
        stop.set()
        thread.join()


def test_a_live_change_notifies_every_attachment(guest):
    class Shared(Device):
        device_id = 2
        shareable = True
        config = ConfigSpace(blk.Config, writable=("writeback",))
        wrote = ()

        def on_config_write(self, changed):
            self.wrote = changed

    device = Shared()
    one, other = guest(device), guest(device)
    device.set_config(capacity=7)
    assert (one.config_changes, other.config_changes) == (1, 1)
    assert one.attachment.read_config(0, 8) == (7).to_bytes(8, "little")
    one.attachment.write_config(blk.Config.writeback.offset, b"\1")
    assert device.wrote == ("writeback",)
    assert one.config_changes == 1
    with pytest.raises(ConfigError):
        one.attachment.write_config(0, b"\1")
    one.attachment.write_config(0, b"\1", migration=True)
    assert device.config.capacity == 1
