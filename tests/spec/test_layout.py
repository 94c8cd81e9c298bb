import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtio.errors import UsageError
from virtio.spec import blk, console, net_control, rpmb, scsi
from virtio.spec.layout import Struct, array, be16, le16, le32, le64, u8


class Pair(Struct, name="pair"):
    """Two numbers."""

    first = le16()
    second = be16()


class Mixed(Struct, name="mixed"):
    """A bit of everything."""

    byte = u8()
    text = u8(3)
    numbers = le32(2)
    pair = array(Pair)
    pairs = array(Pair, 2)
    last = le64()


def test_offsets_and_sizes():
    assert [(f.name, f.offset, f.size) for f in Mixed.FIELDS] == [
        ("byte", 0, 1), ("text", 1, 3), ("numbers", 4, 8), ("pair", 12, 4), ("pairs", 16, 8), ("last", 24, 8)
    ]  # fmt: skip
    assert Mixed.SIZE == 32
    assert Mixed.numbers.type_name == "le32[2]"
    assert Mixed.pair.type_name == "struct pair"


def test_packing_is_little_endian_without_padding():
    value = Mixed(byte=1, text=b"ab", numbers=(2, 3), pair=Pair(first=4, second=5), last=6)
    assert value.pack() == bytes.fromhex("01 616200 02000000 03000000 0400 0005") + bytes(8) + (6).to_bytes(
        8, "little"
    )
    assert Mixed.unpack(value.pack()) == Mixed(
        byte=1, text=b"ab\0", numbers=(2, 3), pair=Pair(first=4, second=5), last=6
    )


def test_the_legacy_order_turns_le_fields_only():
    assert Pair(first=1, second=2).pack("big") == b"\0\1\0\2"
    assert Pair.unpack(b"\0\1\0\2", "big") == Pair(first=1, second=2)
    assert rpmb.Frame(write_counter=1).pack() == rpmb.Frame(write_counter=1).pack("big")


def test_fields_can_be_set_and_compared():
    value = Pair()
    value.first = 7
    assert value == Pair(first=7)
    assert value != Pair(first=8)
    assert repr(value) == "Pair(first=7, second=0)"


def test_a_value_that_does_not_fit_is_refused():
    for wrong in (
        {"byte": 256},
        {"byte": -1},
        {"byte": None},
        {"byte": "7"},
        {"byte": 1.5},
        {"text": b"abcd"},
        {"numbers": (1,)},
        {"pair": 3},
    ):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            Mixed(**wrong).pack()
    with pytest.raises(UsageError, match="mixed has no field nonsense"):
        Mixed(nonsense=1)


def test_data_that_is_too_short_is_refused():
    with pytest.raises(UsageError, match="virtio_blk_req needs at least 16 bytes, not 15"):
        blk.ReqHeader.unpack(bytes(15))


def test_any_buffer_will_do_and_the_rest_is_ignored():
    for data in (b"\1\0\0\2x", bytearray(b"\1\0\0\2x"), memoryview(b"\1\0\0\2x")):
        assert Pair.unpack(data) == Pair(first=1, second=2)


def test_an_array_counted_by_an_earlier_field():
    zone = blk.ZoneDescriptor(z_start=8)
    report = blk.ZoneReport(nr_zones=2, zones=(zone, zone))
    assert len(report.pack()) == 64 + 2 * 64
    assert blk.ZoneReport.unpack(report.pack() + b"more") == report
    with pytest.raises(UsageError, match="virtio_blk_zone_report needs"):
        blk.ZoneReport.unpack(blk.ZoneReport(nr_zones=9).pack())


def test_an_array_that_takes_the_rest():
    assert net_control.Ctrl.unpack(b"\1\2rest").data == b"rest"
    assert net_control.CtrlAck.unpack(b"\0").result == b""


def test_an_array_counted_by_an_argument():
    command = scsi.ReqCmd(lun=b"\1", id=5, cdb=bytes(range(32)))
    assert scsi.ReqCmd.unpack(command.pack() + b"data", cdb_size=32) == scsi.ReqCmd(
        lun=b"\1".ljust(8, b"\0"), id=5, cdb=bytes(range(32))
    )


def test_two_variable_arrays_in_one_structure():
    config = net_control.RssConfig(indirection_table=(1, 2, 3, 4), hash_key_length=2, hash_key_data=b"kk")
    assert net_control.RssConfig.unpack(config.pack(), indirection_table_length=4) == config


def test_the_offset_behind_a_variable_array_is_unknown():
    assert net_control.RssConfig.indirection_table.offset == 8
    assert net_control.RssConfig.max_tx_vq.offset is None


@given(st.binary(max_size=80))
def test_hostile_bytes_give_a_value_or_a_usage_error(data):
    for structure in (
        blk.Config,
        blk.ZoneReport,
        net_control.RssConfig,
        net_control.CtrlMac,
        console.Control,
    ):
        try:
            structure.unpack(data)
        except UsageError:
            continue
