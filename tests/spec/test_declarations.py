"""What every device type's declaration must hold to, whatever it declares."""

import pytest

from virtio.errors import UsageError
from virtio.spec import features, ids, net, vhost_user

CHAPTERS = [entry.name for entry in ids.DEVICES if entry.chapter]


@pytest.mark.parametrize("name", CHAPTERS)
def test_identity_is_that_of_the_table(name):
    device = ids.device(name)
    assert (device.name, device.id) == (name, ids.find(name).id)


@pytest.mark.parametrize("name", CHAPTERS)
def test_feature_bits_are_in_the_ranges_of_device_types(name):
    for bit in ids.device(name).features.values():
        assert bit in range(24) or bit in (41, 42) or bit in range(50, 128)


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_feature_a_declaration_names_exists(name):
    device = ids.device(name)
    known = features.of(device.id)
    named = [need for bit in device.features.values() for need in bit.needs] + list(device.requires)
    named += [queue.feature for queue in device.queues]
    named += [field.feature for structure in device.structures.values() for field in structure.FIELDS]
    assert {choice for need in named if need for choice in need.split("|")} <= set(known)


@pytest.mark.parametrize("name", CHAPTERS)
def test_queues_are_named_and_numbered(name):
    queues = ids.device(name).queues
    assert [queue.first for queue in queues] == list(range(len(queues)))
    assert len({queue.name for queue in queues}) == len(queues)


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_group_has_constants_and_every_structure_words(name):
    device = ids.device(name)
    assert all(device.constants(group) for group in device.groups)
    assert all(structure.__doc__ for structure in device.structures.values())
    assert device.config is None or device.config in device.structures.values()


@pytest.mark.parametrize("name", CHAPTERS)
def test_fixed_structures_survive_packing(name):
    for structure in ids.device(name).structures.values():
        if not any(field.variable for field in structure.FIELDS):
            data = bytes(range(256)) * (structure.SIZE // 256 + 1)
            assert structure.unpack(data).pack() == data[: structure.SIZE]


def test_constants_by_group_and_back():
    blk = ids.device("blk")
    assert blk.constants("T_")["GET_ID"] == 8
    assert blk.constant_name("S_", 2) == "UNSUPP"
    assert blk.constant_name("S_", 77) == "0x4d"
    assert blk.other_constants == {"SECTOR_SIZE": 512, "ID_BYTES": 20}
    assert blk.section == "Device Types / Block Device"


def test_a_constant_belongs_to_its_longest_prefix():
    scsi = ids.device("scsi")
    assert scsi.constants("T_TMF_")["ABORT_TASK"] == 0
    assert scsi.constant_name("T_", 0) == "TMF"
    assert "TMF_ABORT_TASK" not in scsi.constants("T_")


@pytest.mark.parametrize("name", CHAPTERS)
def test_no_constant_is_lost(name):
    device = ids.device(name)
    grouped = [group + key for group in device.groups for key in device.constants(group)]
    assert len(grouped) == len(set(grouped))
    assert not set(grouped) & set(device.other_constants)


def test_constants_of_further_modules_belong_to_the_device():
    assert ids.device("net").constants("CTRL_")["MQ"] == 4
    assert ids.device("net").constants("CTRL_MQ_")["VQ_PAIRS_MAX"] == 0x8000
    assert "StatsTxGso" in ids.device("net").structures


def test_devices_are_found_by_number_name_and_alias():
    assert ids.find(2) == ids.find("2") == ids.find("BLK") == ids.find("block")
    assert ids.device("rng").id == 4
    assert ids.find("vsock").modern_pci == 0x1053
    assert ids.name(26) == "fs"
    assert ids.name(14) == "device 14"
    assert not ids.has_chapter("9p")
    assert not ids.has_chapter(14)


def test_unknown_devices_are_refused_by_name():
    with pytest.raises(UsageError, match="no device type 'floppy' is known"):
        ids.device("floppy")
    with pytest.raises(UsageError, match=r"9p \(device id 9\) has no chapter"):
        ids.device("9p")


def test_required_features_are_asked_for():
    with pytest.raises(features.FeatureError, match=r"can needs CAN_CLASSIC \(0\) or CAN_FD \(1\)"):
        features.check(36, 0)
    features.check(36, features.mask(1))


def test_messages_are_found_by_number_and_name():
    assert [m.name for m in vhost_user.find(5)] == ["SET_MEM_TABLE", "VRING_ERR"]
    assert [m.id for m in vhost_user.find("vhost_user_set_vring_kick")] == [12]
    assert [m.sender for m in vhost_user.find("IOTLB_MSG")] == ["front-end", "back-end"]
    with pytest.raises(UsageError, match="no vhost-user message 'NOPE'"):
        vhost_user.find("NOPE")


def test_every_payload_is_described():
    for message in vhost_user.FRONTEND + vhost_user.BACKEND:
        assert not message.payload or message.payload in vhost_user.PAYLOADS
        assert message.reply in ("", "ack", *vhost_user.PAYLOADS)


def test_net_header_lengths():
    assert (net.Hdr.num_buffers.offset, net.Hdr.outer_th_offset.offset, net.Hdr.SIZE) == (10, 20, 32)
