"""What a driver sees of a NIC: features, configuration, the places of the queues, the control queue."""

from __future__ import annotations

import time

import pytest
from net_guest import await_worker

from virtio.devices.net import Net
from virtio.errors import FeatureError, UsageError
from virtio.network import NullLink
from virtio.spec import features as feature_bits
from virtio.spec import net as spec
from virtio.spec import net_control as ctrl
from virtio.spec.features import VERSION_1, mask
from virtio.testing.wire import Wire

MAC = "52:54:00:12:34:56"
OTHER = bytes.fromhex("52540000000a")


class Cable(NullLink):
    """A link with an MTU and a carrier of its own."""

    def __init__(self, mtu: int | None = None) -> None:
        super().__init__()
        self.bytes_of_payload = mtu
        self.plugged = True
        self.tell = None

    @property
    def mtu(self) -> int | None:
        return self.bytes_of_payload

    @property
    def up(self) -> bool:
        return self.plugged

    def on_carrier(self, tell) -> None:  # type: ignore[no-untyped-def]
        self.tell = tell

    def plug(self, up: bool) -> None:
        self.plugged = up
        assert self.tell is not None
        self.tell(up)


def wants(nic: Net, to: bytes) -> bool:
    return nic.filtering._filter_of(nic.filtering.rules).wants(to + bytes(6) + b"\x08\x00")  # type: ignore[union-attr]


# What is offered.


def test_the_offer_keeps_its_own_rules() -> None:
    for options in (
        {},
        {"num_queues": 4},
        {"hash_report": True},
        {"offloads": False},
        {"mtu": 1500, "standby": True},
    ):
        nic = Net("null:", **options)  # type: ignore[arg-type]
        feature_bits.check(nic.device_id, nic.offered_features)
        assert not nic.features & mask(spec.F_GSO, spec.F_RSS_CONTEXT)
        nic.close()


@pytest.mark.parametrize(
    ("options", "features"),
    [
        ({"num_queues": 2}, (spec.F_MQ, spec.F_RSS, spec.F_HASH_TUNNEL)),
        ({"num_queues": 2, "rss": False}, (spec.F_MQ,)),
        ({"rss": True}, (spec.F_RSS, spec.F_HASH_TUNNEL)),
        ({"hash_report": True}, (spec.F_HASH_REPORT, spec.F_HASH_TUNNEL)),
        ({"mtu": 9000}, (spec.F_MTU,)),
        ({"speed": 10000}, (spec.F_SPEED_DUPLEX,)),
        ({"standby": True}, (spec.F_STANDBY,)),
    ],
)
def test_features_that_settings_bring(options: dict[str, int], features: tuple[int, ...]) -> None:
    with Net("null:") as plain, Net("null:", **options) as nic:  # type: ignore[arg-type]
        assert nic.features == plain.features | mask(*features)


def test_finished_frames_only() -> None:
    with Net("null:", offloads=False) as nic:
        offloads = [spec.F_CSUM, spec.F_GUEST_CSUM, spec.F_HOST_TSO4, spec.F_GUEST_USO6, spec.F_GUEST_HDRLEN]
        assert not nic.features & mask(*offloads)
        assert nic.features & mask(spec.F_CTRL_VQ)


@pytest.mark.parametrize(
    ("accepted", "named"),
    [
        (mask(spec.F_GUEST_TSO4), "GUEST_TSO4"),
        (mask(spec.F_HOST_USO), "HOST_USO"),
        (mask(spec.F_CSUM, spec.F_HOST_ECN), "HOST_ECN"),
        (mask(spec.F_RSC_EXT), "RSC_EXT"),
    ],
)
def test_features_that_cannot_be_accepted(accepted: int, named: str, guest) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FeatureError, match=named):
        guest(Net("null:"), features=accepted | mask(VERSION_1))


def test_a_front_end_may_keep_the_control_queue(guest) -> None:  # type: ignore[no-untyped-def]
    features = mask(VERSION_1, spec.F_MQ, spec.F_GUEST_ANNOUNCE)
    g = guest(Net("null:", num_queues=2), features=features, queues=range(4))
    assert g.attachment.device.multiqueue.choice.pairs == 2
    g.attachment.vrings[2].set_enabled(False)
    assert g.attachment.device.multiqueue.choice.pairs == 1
    g.attachment.reset()
    assert g.attachment.device.multiqueue._enabled == set()


# Configuration.


def test_configuration() -> None:
    with Net("null:", mac=MAC, mtu=9000, num_queues=3, speed=25000, duplex="full") as nic:
        config = spec.Config.unpack(nic.config.read(0, spec.Config.SIZE))
        assert bytes(config.mac) == bytes.fromhex("525400123456")
        assert (config.status, config.max_virtqueue_pairs, config.mtu) == (spec.S_LINK_UP, 3, 9000)
        assert (config.speed, config.duplex) == (25000, 1)
        assert (config.rss_max_key_size, config.rss_max_indirection_table_length) == (40, 128)
        assert (config.supported_hash_types, config.supported_tunnel_types) == (0x1FF, 0x1FF)


def test_fields_of_features_that_are_not_offered_are_left_out() -> None:
    with Net("null:") as nic:
        assert len(nic.config) == spec.Config.rss_max_key_size.offset
        config = spec.Config.unpack(nic.config.read(0, spec.Config.SIZE))
        assert (config.speed, config.duplex) == (0xFFFFFFFF, 0xFF)
        assert config.supported_hash_types == 0


def test_addresses() -> None:
    with Net("null:") as one, Net("null:") as two, Net("null:", mac=bytes.fromhex("020000000001")) as three:
        assert one.mac[:3] == b"\x52\x54\x00"
        assert one.mac != two.mac
        assert three.mac == bytes.fromhex("020000000001")
    with Net("null:", mac="52-54-00-AB-cd-EF") as nic:
        assert nic.mac == bytes.fromhex("525400abcdef")


@pytest.mark.parametrize(
    "options",
    [
        {"mac": "52:54:00"},
        {"mac": "52:54-00:12:34:56"},
        {"mac": "01:00:5e:00:00:01"},
        {"mac": bytes(6)},
        {"mac": bytes(5)},
        {"mtu": 67},
        {"mtu": 65536},
        {"num_queues": 0},
        {"num_queues": 257},
        {"speed": -1},
        {"speed": 1 << 31},
        {"duplex": "simplex"},
    ],
)
def test_what_cannot_be(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Net("null:", **options)  # type: ignore[arg-type]


def test_the_mtu_of_the_link() -> None:
    with Net(Cable(1400)) as nic:
        assert nic.config.mtu == 1400
        assert nic.features & mask(spec.F_MTU)
    with pytest.raises(UsageError, match="1400"):
        Net(Cable(1400), mtu=1500)


def test_a_link_of_the_callers_is_let_go_and_not_closed() -> None:
    link = Cable()
    with Net(link), pytest.raises(UsageError):
        Net(link)
    with Net(link):
        pass


# While it runs.


def test_the_cable_is_pulled_and_plugged(guest) -> None:  # type: ignore[no-untyped-def]
    nic = Net("null:")
    g = guest(nic)
    generation = nic.config.generation
    nic.set_link(False)
    nic.set_link(False)
    assert not nic.link_up
    assert g.attachment.read_config(6, 2) == b"\0\0"
    assert (nic.config.generation, g.config_changes) == (generation + 1, 1)
    nic.set_link(True)
    assert g.attachment.read_config(6, 2) == b"\1\0"
    assert g.config_changes == 2


def test_the_carrier_of_the_link(guest) -> None:  # type: ignore[no-untyped-def]
    link = Cable()
    nic = Net(link)
    g = guest(nic)
    link.plug(False)
    assert not nic.link_up
    nic.set_link(False)
    link.plug(True)
    assert not nic.link_up  # the administrator's cable is still out
    nic.set_link(True)
    assert nic.link_up
    assert g.config_changes == 2


def test_a_link_that_is_down_from_the_beginning() -> None:
    link = Cable()
    link.plugged = False
    with Net(link) as nic:
        assert not nic.link_up


def test_the_mtu_changes_only_between_drivers(guest) -> None:  # type: ignore[no-untyped-def]
    nic = Net(Cable(9000), mtu=1500)
    g = guest(nic)
    with pytest.raises(UsageError, match="while a driver uses it"):
        nic.set_mtu(9000)
    g.attachment.reset()
    nic.set_mtu(9000)
    assert nic.config.mtu == 9000
    with pytest.raises(UsageError, match="link"):
        nic.set_mtu(9001)


def command(g, kind: int, number: int, data: bytes = b"", room: int = 1, *, queue: int = 2) -> bytes:  # type: ignore[no-untyped-def]
    answer = g.ask([bytes([kind, number]), *([data] if data else [])], [room], queue=queue)
    return answer.parts[0][: answer.used]


def test_commands_reach_the_device(guest) -> None:  # type: ignore[no-untyped-def]
    nic = Net("null:", mac=MAC)
    g = guest(nic)
    assert not wants(nic, OTHER)
    assert command(g, ctrl.CTRL_RX, ctrl.CTRL_RX_PROMISC, b"\1") == bytes([ctrl.OK])
    assert wants(nic, OTHER)
    assert command(g, 77, 1, b"?") == bytes([ctrl.ERR])
    assert command(g, ctrl.CTRL_STATS, ctrl.CTRL_STATS_QUERY, room=9)[0] == ctrl.OK


def test_the_driver_sets_its_address(guest) -> None:  # type: ignore[no-untyped-def]
    nic = Net("null:", mac=MAC)
    g = guest(nic)
    assert command(g, ctrl.CTRL_MAC, ctrl.CTRL_MAC_ADDR_SET, OTHER) == bytes([ctrl.OK])
    assert g.attachment.read_config(0, 6) == OTHER == nic.mac
    assert g.config_changes == 0
    g.attachment.reset()
    assert nic.mac.hex(":") == MAC


def test_commands_without_room_or_of_too_many_bytes(guest) -> None:  # type: ignore[no-untyped-def]
    nic = Net("null:")
    g = guest(nic)
    assert g.ask([bytes([ctrl.CTRL_RX, ctrl.CTRL_RX_PROMISC, 1])], [], queue=2).used == 0
    assert not wants(nic, OTHER)
    assert g.ask([bytes(1 << 20)], [1], queue=2).parts == [bytes([ctrl.ERR])]
    assert g.ask([], [1], queue=2).parts == [bytes([ctrl.ERR])]


def test_the_control_queue_is_the_last_one_with_several_pairs(guest) -> None:  # type: ignore[no-untyped-def]
    nic = Net("null:", num_queues=3)
    g = guest(nic)
    assert command(g, ctrl.CTRL_MQ, ctrl.CTRL_MQ_VQ_PAIRS_SET, b"\3\0", queue=6) == bytes([ctrl.OK])
    assert nic.multiqueue.choice.pairs == 3


def test_the_control_queue_is_the_third_one_without(guest) -> None:  # type: ignore[no-untyped-def]
    nic = Net("null:", num_queues=3)
    features = nic.offered_features & ~mask(spec.F_MQ, spec.F_RSS, spec.F_HASH_TUNNEL)
    g = guest(nic, features=features, queues=range(3))
    assert command(g, ctrl.CTRL_RX, ctrl.CTRL_RX_PROMISC, b"\1") == bytes([ctrl.OK])
    assert [nic._role(index) for index in (0, 1, 3)] == [("receive", 0), ("transmit", 0), None]
    everything = guest(Net("null:", num_queues=3), features=features)
    assert command(everything, ctrl.CTRL_RX, ctrl.CTRL_RX_PROMISC, b"\1", queue=3) == bytes([ctrl.ERR])


def test_announcement_by_the_driver(guest) -> None:  # type: ignore[no-untyped-def]
    link = NullLink()
    nic = Net(link)
    g = guest(nic)
    nic.announce()
    assert nic.config.status == spec.S_LINK_UP | spec.S_ANNOUNCE
    assert g.config_changes == 1
    assert command(g, ctrl.CTRL_ANNOUNCE, ctrl.CTRL_ANNOUNCE_ACK) == bytes([ctrl.OK])
    assert nic.config.status == spec.S_LINK_UP
    assert command(g, ctrl.CTRL_ANNOUNCE, ctrl.CTRL_ANNOUNCE_ACK, b"\0") == bytes([ctrl.ERR])
    assert link.stats()["frames"] == 0
    nic.announce()
    g.attachment.reset()
    assert nic.config.status == spec.S_LINK_UP


def test_announcement_for_a_driver_that_cannot() -> None:
    wire = Wire()
    with Net(wire, mac=MAC) as nic:
        nic.announce()
        (seen,) = wire.wait(1)
        mac = nic.mac
        assert seen.data[:14] == b"\xff" * 6 + mac + b"\x80\x35"
        assert seen.data[14:42] == bytes.fromhex("0001080006040003") + mac + bytes(4) + mac + bytes(4)
        assert len(seen.data) == 60


def test_a_legacy_driver_writes_its_address(guest) -> None:  # type: ignore[no-untyped-def]
    nic = Net("null:", mac=MAC)
    features = nic.offered_features & ~mask(spec.F_CTRL_MAC_ADDR)
    g = guest(nic, features=features, legacy=True)
    for at in range(6):
        g.attachment.write_config(at, OTHER[at : at + 1])
    assert nic.mac == OTHER
    assert wants(nic, OTHER)


def test_a_modern_driver_may_not(guest) -> None:  # type: ignore[no-untyped-def]
    nic = Net("null:", mac=MAC)
    g = guest(nic)
    g.attachment.write_config(0, OTHER)
    assert g.attachment.read_config(0, 6).hex(":") == MAC
    assert nic.mac.hex(":") == MAC


def test_statistics_of_a_real_queue(guest) -> None:  # type: ignore[no-untyped-def]
    nic = Net("null:")
    g = guest(nic)
    g.ask([bytes(12) + bytes(60)], [], queue=1)
    g.ask([bytes(3)], [], queue=1)
    counters = nic._counters(1, nic._role(1))  # type: ignore[arg-type]
    assert (counters["frames"], counters["bytes"], counters["runt"]) == (1, 60, 1)
    assert counters["requests"] == 2


def test_a_flow_comes_back_on_the_queue_it_was_sent_on(guest) -> None:  # type: ignore[no-untyped-def]
    wire = Wire()
    nic = Net(wire, num_queues=2)
    g = guest(nic)
    assert command(g, ctrl.CTRL_RX, ctrl.CTRL_RX_PROMISC, b"\1", queue=4) == bytes([ctrl.OK])
    assert command(g, ctrl.CTRL_MQ, ctrl.CTRL_MQ_VQ_PAIRS_SET, b"\2\0", queue=4) == bytes([ctrl.OK])
    here, there = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
    for queue in (0, 2):
        await_worker(g, queue)
    for pair in (1, 0, 1):
        out = bytes(12) + b"\x08\x00\x45" + bytes(8) + b"\x01" + bytes(2) + here + there + bytes(40)
        back = bytes(12) + b"\x08\x00\x45" + bytes(8) + b"\x01" + bytes(2) + there + here + bytes(40)
        g.ask([bytes(12) + out], [], queue=2 * pair + 1)
        token = g.submit([], [2048], queue=2 * pair)
        g.kick(2 * pair)
        assert wire.send([back]) == 1
        assert g.wait(token)[0].parts[0][12 : 12 + len(back)] == back
        time.sleep(0.06)  # under way, it would stay where it is
