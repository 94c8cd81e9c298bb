import json
import re

import pytest
from click.testing import CliRunner

from virtio.cli.app import root, run
from virtio.spec import DEVICES


def ask(*arguments: str) -> str:
    result = CliRunner().invoke(root, ["spec", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def ask_json(*arguments: str):
    return json.loads(ask(*arguments, "--json"))


def test_all_device_types_are_listed():
    assert ask() == ask("devices")
    lines = ask().splitlines()
    assert len(lines) == 1 + len(DEVICES)
    assert lines[2].split() == ["2", "blk", "block", "device", "yes", "0x1042,", "transitional", "0x1001"]
    assert [entry["id"] for entry in ask_json()] == [entry.id for entry in DEVICES]


@pytest.mark.parametrize("name", [entry.name for entry in DEVICES])
def test_every_device_type_can_be_shown(name):
    assert ask("device", name).startswith(f"{name}: ")
    assert ask_json("device", name)["name"] == name


def test_a_device_type_in_words():
    text = ask("device", "blk")
    assert 'Virtio 1.4, "Device Types / Block Device"' in text
    assert "Configuration space, 96 bytes" in text
    assert "17  ZONED         zones, as zoned describes; needs VERSION_1" in text
    assert re.search(r"34  le16 +num_queues +with MQ", text)
    assert "VIRTIO_BLK_T_GET_ID" in text
    assert "Always needed: CAN_CLASSIC or CAN_FD." in ask("device", "can")
    assert "struct virtio_blk_req, device-readable, 16 bytes" in text
    assert ask("device", "2") == ask("device", "block") == text


def test_a_device_type_in_json():
    data = ask_json("device", "net")
    assert data["pci"] == {"modern": 0x1041, "transitional": 0x1000}
    features = {feature["name"]: feature for feature in data["features"]}
    assert features["HASH_TUNNEL"]["needs"] == ["CTRL_VQ", "RSS|HASH_REPORT"]
    assert features["IPSEC"]["bit"] == 70
    assert data["config"]["fields"][0] == {
        "name": "mac", "type": "u8[6]", "offset": 0, "size": 6, "feature": "MAC",
        "meaning": "writable by the driver on the legacy interface",
    }  # fmt: skip


def test_a_feature_by_every_name_it_goes_by():
    text = ask("feature", "RING_PACKED")
    assert text.startswith("VIRTIO_F_RING_PACKED: bit 34 (0x400000000), of every device type")
    assert ask("feature", "34") == ask("feature", "virtio_f_ring_packed") == text
    assert [entry["device"] for entry in ask_json("feature", "MQ")] == ["net", "blk"]
    only = ask_json("feature", "MQ", "--device", "block")
    assert [(entry["device"], entry["bit"]) for entry in only] == [("blk", 12)]
    assert "needed by CIPHER_STATELESS_MODE" in ask("feature", "REVISION_1")
    assert ask_json("feature", "VERSION_1", "--device", "blk")[0]["device"] is None


def test_a_feature_set():
    text = ask("decode", "net", "0x80")
    assert "7  GUEST_TSO4" in text
    assert "This set cannot be: GUEST_TSO4 (7) needs GUEST_CSUM (1)." in text
    assert ask_json("decode", "net", str(1 << 70 | 1))["bits"] == [
        {"bit": 0, "name": "CSUM"}, {"bit": 70, "name": "IPSEC"}
    ]  # fmt: skip
    assert "no bit" in ask("decode", "blk", "0")


def test_a_status():
    assert ask("status", "0x4f").startswith(
        "0x4f: ACKNOWLEDGE DRIVER FEATURES_OK DRIVER_OK DEVICE_NEEDS_RESET\n"
    )
    assert ask("status", "0") == "0x00: 0 (reset)\n"
    assert len(ask_json("status")["bits"]) == 7


def test_messages():
    assert "front-end  5   SET_MEM_TABLE" in ask("messages")
    assert ask_json("messages")["protocol_features"]["STATUS"] == 16
    text = ask("message", "set_vring_kick")
    assert "VHOST_USER_SET_VRING_KICK: request 12 of the front-end" in text
    assert "bits 0-7 index" in text
    assert len(ask_json("message", "5")) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["device", "floppy"], "no device type 'floppy' is known"),
        (["feature", "NOPE"], "no feature 'NOPE' is known"),
        (["feature", "MQ", "--device", "fs"], "no feature 'MQ' is known"),
        (["decode", "net", "many"], "'many' is not a number"),
        (["decode", "net", "-1"], "No such option"),
        (["status", "--", "-1"], "'-1' is negative"),
        (["message", "NOPE"], "no vhost-user message 'NOPE' is known"),
    ],
)
def test_what_does_not_exist_is_a_usage_error(capsys, arguments, message):
    assert run(["spec", *arguments]) == 2
    assert message in capsys.readouterr().err
