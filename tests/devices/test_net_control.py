"""The control queue: every command, refusals, and commands of any bytes."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virtio.devices.net.coalescing import Coalescing
from virtio.devices.net.control import LARGEST_COMMAND, Control
from virtio.devices.net.filtering import Filtering
from virtio.devices.net.multiqueue import Multiqueue
from virtio.devices.net.nic import Nic
from virtio.devices.net.offloads import Offloads
from virtio.devices.net.statistics import KINDS, Role, Statistics
from virtio.devices.net.steering import FlowSteering, RssSteering, Steering
from virtio.network import NullLink
from virtio.spec import net as spec
from virtio.spec import net_control as ctrl
from virtio.spec import net_stats as stats
from virtio.spec.features import mask

MAC = bytes.fromhex("525400123456")
OTHER = bytes.fromhex("52540000000a")
GROUP = bytes.fromhex("01005e00000a")
ALL = (1 << 64) - 1
PAIRS = 4


class RecordingNic(Nic):
    """A NIC that remembers what it was told."""

    def __init__(self) -> None:
        super().__init__(NullLink(), PAIRS)
        self.told: dict[str, Any] = {}

    def set_filter(self, filter: Any) -> None:
        super().set_filter(filter)
        self.told["filter"] = filter

    def set_steering(self, steering: Any) -> None:
        super().set_steering(steering)
        self.told["steering"] = steering

    def set_pairs(self, pairs: int) -> None:
        super().set_pairs(pairs)
        self.told["pairs"] = pairs

    def set_offloads(self, offloads: int) -> None:
        super().set_offloads(offloads)
        self.told["offloads"] = offloads


class Bench:
    """The parts of a device behind its control queue."""

    def __init__(self, features: int = ALL) -> None:
        self.nic = RecordingNic.__new__(RecordingNic)
        self.nic.told = {}
        self.nic.__init__()  # type: ignore[misc]
        self.macs: list[bytes] = []
        self.disabled: set[int] = set()
        self.changed: list[int] = []
        self.counters: dict[str, int] = {}
        self.filtering = Filtering(self.nic, MAC, self.macs.append)
        self.multiqueue = Multiqueue(self.nic, PAIRS)
        self.coalescing = Coalescing(2 * PAIRS, lambda index: index not in self.disabled, self.changed.append)
        self.offloads = Offloads(self.nic)
        self.statistics = Statistics(self.role, self.read)
        self.control = Control(
            self.filtering.commands(),
            self.multiqueue.commands(),
            self.coalescing.commands(),
            self.offloads.commands(),
            self.statistics.commands(),
        )
        self.start(features)

    def start(self, features: int) -> None:
        self.nic.set_features(features)
        self.filtering.start(features, MAC)
        self.multiqueue.start(features)
        self.coalescing.start(features)
        self.offloads.start(features)
        self.statistics.start(features)
        self.control.start(features)

    def role(self, index: int) -> Role | None:
        if index == 2 * PAIRS:
            return Role("control")
        return Role("transmit" if index % 2 else "receive", index // 2) if index < 2 * PAIRS else None

    def read(self, index: int, role: Role) -> dict[str, int]:
        return self.control.counters if role.kind == "control" else self.counters

    def ask(self, kind: int, number: int, data: bytes = b"", room: int = 4096) -> bytes:
        return self.control.execute(bytes([kind, number]) + data, room)

    def ok(self, kind: int, number: int, data: bytes = b"", room: int = 4096) -> bytes:
        answer = self.ask(kind, number, data, room)
        assert answer[:1] == bytes([ctrl.OK])
        return answer[1:]

    def refuses(self, kind: int, number: int, data: bytes = b"", room: int = 4096) -> None:
        before = dict(self.nic.told), list(self.macs), self.limits()
        assert self.ask(kind, number, data, room) == bytes([ctrl.ERR])
        assert (dict(self.nic.told), list(self.macs), self.limits()) == before

    def limits(self) -> list[tuple[int, int]]:
        return [(queue.max_packets, queue.max_usecs) for queue in self.coalescing.queues]

    def wants(self, to: bytes, vlan: int | None = None) -> bool:
        tag = b"" if vlan is None else b"\x81\x00" + vlan.to_bytes(2, "big")
        rules = self.nic.told["filter"]
        return rules is None or rules.wants(to + bytes(6) + tag + b"\x08\x00")


@pytest.fixture
def bench() -> Bench:
    return Bench()


def le16(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}H", *values)


def le32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def le64(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


# Filters.


@pytest.mark.parametrize(
    ("number", "to"),
    [(ctrl.CTRL_RX_PROMISC, OTHER), (ctrl.CTRL_RX_ALLMULTI, GROUP), (ctrl.CTRL_RX_ALLUNI, OTHER)],
)
def test_modes_that_let_more_through(bench: Bench, number: int, to: bytes) -> None:
    for _ in range(2):
        assert not bench.wants(to)
        bench.ok(ctrl.CTRL_RX, number, b"\1")
        assert bench.wants(to)
        bench.ok(ctrl.CTRL_RX, number, b"\0")


@pytest.mark.parametrize(
    ("number", "to"),
    [(ctrl.CTRL_RX_NOMULTI, GROUP), (ctrl.CTRL_RX_NOUNI, MAC), (ctrl.CTRL_RX_NOBCAST, b"\xff" * 6)],
)
def test_modes_that_let_less_through(bench: Bench, number: int, to: bytes) -> None:
    bench.ok(ctrl.CTRL_RX, ctrl.CTRL_RX_ALLMULTI, b"\1")
    assert bench.wants(to)
    bench.ok(ctrl.CTRL_RX, number, b"\1")
    assert not bench.wants(to)
    bench.ok(ctrl.CTRL_RX, number, b"\0")
    assert bench.wants(to)


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("data", [b"", b"\2", b"\1\0"])
def test_modes_are_on_or_off(bench: Bench, number: int, data: bytes) -> None:
    bench.refuses(ctrl.CTRL_RX, number, data)


def table(unicast: list[bytes], multicast: list[bytes]) -> bytes:
    return le32(len(unicast)) + b"".join(unicast) + le32(len(multicast)) + b"".join(multicast)


def test_the_mac_table_is_replaced_as_a_whole(bench: Bench) -> None:
    bench.ok(ctrl.CTRL_MAC, ctrl.CTRL_MAC_TABLE_SET, table([OTHER], [GROUP]))
    assert bench.wants(OTHER)
    assert bench.wants(GROUP)
    bench.ok(ctrl.CTRL_MAC, ctrl.CTRL_MAC_TABLE_SET, table([], []))
    assert not bench.wants(OTHER)
    assert not bench.wants(GROUP)
    assert bench.wants(MAC)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        le32(0),
        le32(1) + OTHER,
        le32(2) + OTHER + le32(0),
        le32(0xFFFFFFFF) + OTHER,
        table([OTHER], []) + b"\0",
        le32(0) + le32(1) + GROUP[:5],
    ],
)
def test_mac_tables_that_are_none(bench: Bench, data: bytes) -> None:
    bench.refuses(ctrl.CTRL_MAC, ctrl.CTRL_MAC_TABLE_SET, data)


def test_a_large_mac_table(bench: Bench) -> None:
    macs = [b"\x02\x00" + number.to_bytes(4, "big") for number in range(40000)]
    bench.ok(ctrl.CTRL_MAC, ctrl.CTRL_MAC_TABLE_SET, table(macs, []))
    assert bench.wants(macs[-1])
    more = table(macs + macs, [])
    assert len(more) > LARGEST_COMMAND
    bench.refuses(ctrl.CTRL_MAC, ctrl.CTRL_MAC_TABLE_SET, more)


def test_the_own_address_can_be_set(bench: Bench) -> None:
    bench.ok(ctrl.CTRL_MAC, ctrl.CTRL_MAC_ADDR_SET, OTHER)
    assert bench.macs == [OTHER]
    assert bench.wants(OTHER)
    assert not bench.wants(MAC)


@pytest.mark.parametrize("data", [b"", OTHER[:5], OTHER + b"\0", GROUP, bytes(6)])
def test_own_addresses_that_are_none(bench: Bench, data: bytes) -> None:
    bench.refuses(ctrl.CTRL_MAC, ctrl.CTRL_MAC_ADDR_SET, data)


def test_vlans(bench: Bench) -> None:
    assert not bench.wants(MAC, vlan=5)
    bench.ok(ctrl.CTRL_VLAN, ctrl.CTRL_VLAN_ADD, le16(5))
    bench.ok(ctrl.CTRL_VLAN, ctrl.CTRL_VLAN_ADD, le16(4095))
    assert [vlan for vlan in range(4096) if bench.wants(MAC, vlan)] == [5, 4095]
    bench.ok(ctrl.CTRL_VLAN, ctrl.CTRL_VLAN_DEL, le16(5))
    bench.ok(ctrl.CTRL_VLAN, ctrl.CTRL_VLAN_DEL, le16(6))  # was not there
    assert not bench.wants(MAC, vlan=5)


@pytest.mark.parametrize("data", [b"", b"\1", le16(4096), le16(5, 5)])
def test_vlans_that_are_none(bench: Bench, data: bytes) -> None:
    bench.refuses(ctrl.CTRL_VLAN, ctrl.CTRL_VLAN_ADD, data)
    bench.refuses(ctrl.CTRL_VLAN, ctrl.CTRL_VLAN_DEL, data)


def test_who_cannot_say_what_it_wants_gets_everything() -> None:
    for features in (0, mask(spec.F_CTRL_RX, spec.F_CTRL_VLAN), mask(spec.F_CTRL_VQ)):
        assert Bench(features).nic.told["filter"] is None
    only_vlans = Bench(mask(spec.F_CTRL_VQ, spec.F_CTRL_VLAN))
    assert only_vlans.wants(OTHER)
    assert only_vlans.wants(GROUP)
    assert not only_vlans.wants(OTHER, vlan=1)
    only_modes = Bench(mask(spec.F_CTRL_VQ, spec.F_CTRL_RX))
    assert only_modes.wants(MAC, vlan=1)
    assert not only_modes.wants(OTHER)


def test_a_reset_forgets_filters(bench: Bench) -> None:
    bench.ok(ctrl.CTRL_RX, ctrl.CTRL_RX_PROMISC, b"\1")
    bench.ok(ctrl.CTRL_VLAN, ctrl.CTRL_VLAN_ADD, le16(5))
    bench.start(ALL)
    assert not bench.wants(OTHER)
    assert not bench.wants(MAC, vlan=5)


# Queues and hashes.


KEY = bytes(range(40))


def rss(
    types: int = spec.HASH_TYPE_IPv4,
    table: tuple[int, ...] = (0, 1, 2, 3),
    unclassified: int = 1,
    max_tx_vq: int = 4,
    key: bytes = KEY,
) -> bytes:
    return ctrl.RssConfig(
        hash_types=types,
        indirection_table_mask=len(table) - 1,
        unclassified_queue=unclassified,
        indirection_table=table,
        max_tx_vq=max_tx_vq,
        hash_key_length=len(key),
        hash_key_data=key,
    ).pack()


def hash_config(types: int, key: bytes = KEY) -> bytes:
    return ctrl.HashConfig(hash_types=types, hash_key_length=len(key), hash_key_data=key).pack()


ARP = bytes(12) + b"\x08\x06" + bytes(28)
IPV4 = bytes(12) + b"\x08\x00\x45" + bytes(8) + b"\x01" + bytes(26)


def test_one_pair_is_used_at_first(bench: Bench) -> None:
    assert bench.nic.told["pairs"] == 1
    assert bench.nic.told["steering"] is None


def test_pairs(bench: Bench) -> None:
    bench.ok(ctrl.CTRL_MQ, ctrl.CTRL_MQ_VQ_PAIRS_SET, le16(3))
    assert bench.nic.told["pairs"] == 3
    assert isinstance(bench.nic.told["steering"], FlowSteering)
    bench.ok(ctrl.CTRL_MQ, ctrl.CTRL_MQ_VQ_PAIRS_SET, le16(1))
    assert bench.nic.told["pairs"] == 1
    assert bench.nic.told["steering"] is None


@pytest.mark.parametrize("data", [b"", le16(0), le16(PAIRS + 1), le16(0x8000), le16(1, 0)])
def test_pairs_that_there_are_not(bench: Bench, data: bytes) -> None:
    bench.refuses(ctrl.CTRL_MQ, ctrl.CTRL_MQ_VQ_PAIRS_SET, data)


def test_rss(bench: Bench) -> None:
    bench.ok(ctrl.CTRL_MQ, ctrl.CTRL_MQ_RSS_CONFIG, rss(table=(2, 2), unclassified=3, max_tx_vq=1))
    steering = bench.nic.told["steering"]
    assert isinstance(steering, RssSteering)
    assert bench.nic.told["pairs"] == 4  # up to the last queue that frames go to
    assert steering.pick(ARP) == (3, 0, 0)
    assert steering.pick(IPV4)[::2] == (2, spec.HASH_REPORT_IPv4)
    bench.ok(ctrl.CTRL_MQ, ctrl.CTRL_MQ_VQ_PAIRS_SET, le16(2))  # the last command counts
    assert isinstance(bench.nic.told["steering"], FlowSteering)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        rss()[:-1],
        rss() + b"\0",
        rss(types=1 << 9),
        rss(table=(0, 1, 2)),
        rss(table=(0,) * 256),
        rss(table=(0, PAIRS)),
        rss(unclassified=PAIRS),
        rss(unclassified=0x8001),
        rss(max_tx_vq=0),
        rss(max_tx_vq=PAIRS + 1),
        rss(key=bytes(41)),
        rss(key=b""),
    ],
)
def test_rss_that_cannot_be(bench: Bench, data: bytes) -> None:
    bench.refuses(ctrl.CTRL_MQ, ctrl.CTRL_MQ_RSS_CONFIG, data)


def test_hashes_with_automatic_steering(bench: Bench) -> None:
    bench.ok(ctrl.CTRL_MQ, ctrl.CTRL_MQ_HASH_CONFIG, hash_config(spec.HASH_TYPE_IPv4))
    assert type(bench.nic.told["steering"]) is Steering
    assert bench.nic.told["steering"].pick(IPV4)[2] == spec.HASH_REPORT_IPv4
    bench.ok(ctrl.CTRL_MQ, ctrl.CTRL_MQ_VQ_PAIRS_SET, le16(2))
    assert isinstance(bench.nic.told["steering"], FlowSteering)
    assert bench.nic.told["steering"].pick(IPV4)[2] == spec.HASH_REPORT_IPv4
    bench.ok(ctrl.CTRL_MQ, ctrl.CTRL_MQ_HASH_CONFIG, hash_config(0, b""))
    assert bench.nic.told["steering"].pick(IPV4)[2] == spec.HASH_REPORT_NONE


@pytest.mark.parametrize("data", [b"", hash_config(1)[:-1], hash_config(1) + b"\0", hash_config(1 << 9)])
def test_hashes_that_cannot_be(bench: Bench, data: bytes) -> None:
    bench.refuses(ctrl.CTRL_MQ, ctrl.CTRL_MQ_HASH_CONFIG, data)


def test_inner_hashes(bench: Bench) -> None:
    bench.ok(ctrl.CTRL_MQ, ctrl.CTRL_MQ_HASH_CONFIG, hash_config(spec.HASH_TYPE_IPv4))
    inner = b"\x45" + bytes(11) + b"\1\2\3\4\5\6\7\x08"
    outer = bytes(12) + b"\x08\x00\x45" + bytes(8) + b"\x04" + bytes(10) + inner
    plain = bench.nic.told["steering"].pick(outer)
    bench.ok(ctrl.CTRL_HASH_TUNNEL, ctrl.CTRL_HASH_TUNNEL_SET, le32(spec.HASH_TUNNEL_TYPE_IPIP))
    assert bench.nic.told["steering"].pick(outer) != plain
    for data in (b"", le32(1 << 9), le32(0, 0)):
        bench.refuses(ctrl.CTRL_HASH_TUNNEL, ctrl.CTRL_HASH_TUNNEL_SET, data)


def test_pairs_of_a_front_end_that_keeps_the_control_queue() -> None:
    bench = Bench(mask(spec.F_MQ))
    for pair in (1, 0, 3):
        bench.multiqueue.set_enabled(pair, True)
    assert bench.nic.told["pairs"] == 2
    assert isinstance(bench.nic.told["steering"], FlowSteering)
    bench.multiqueue.set_enabled(2, True)
    assert bench.nic.told["pairs"] == 4
    bench.multiqueue.set_enabled(1, False)
    assert bench.nic.told["pairs"] == 1
    assert bench.nic.told["steering"] is None


def test_rings_say_nothing_where_there_is_a_control_queue(bench: Bench) -> None:
    for pair in range(PAIRS):
        bench.multiqueue.set_enabled(pair, True)
    assert bench.nic.told["pairs"] == 1
    bench.start(mask(spec.F_MQ))
    assert bench.nic.told["pairs"] == 4


# Offloads.


def test_offloads(bench: Bench) -> None:
    bench.ok(ctrl.CTRL_GUEST_OFFLOADS, ctrl.CTRL_GUEST_OFFLOADS_SET, le64(1 << ctrl.OFFLOAD_GUEST_CSUM))
    assert bench.nic.told["offloads"] == mask(spec.F_GUEST_CSUM)
    bench.ok(ctrl.CTRL_GUEST_OFFLOADS, ctrl.CTRL_GUEST_OFFLOADS_SET, le64(0))
    assert bench.nic.told["offloads"] == 0


@pytest.mark.parametrize("data", [b"", bytes(7), bytes(9), le64(1), le64(1 << 46)])
def test_offloads_that_cannot_be(bench: Bench, data: bytes) -> None:
    bench.refuses(ctrl.CTRL_GUEST_OFFLOADS, ctrl.CTRL_GUEST_OFFLOADS_SET, data)


def test_offloads_that_were_not_negotiated() -> None:
    bench = Bench(mask(spec.F_CTRL_GUEST_OFFLOADS, spec.F_GUEST_CSUM))
    both = 1 << ctrl.OFFLOAD_GUEST_CSUM | 1 << ctrl.OFFLOAD_GUEST_TSO4
    bench.refuses(ctrl.CTRL_GUEST_OFFLOADS, ctrl.CTRL_GUEST_OFFLOADS_SET, le64(both))


# Coalescing.


def test_the_example_of_the_specification(bench: Bench) -> None:
    coal = ctrl.CTRL_NOTF_COAL
    bench.ok(coal, ctrl.CTRL_NOTF_COAL_RX_SET, le32(1, 10))
    bench.ok(coal, ctrl.CTRL_NOTF_COAL_VQ_SET, le16(0, 0xFFFF) + le32(2, 20))
    assert bench.ok(coal, ctrl.CTRL_NOTF_COAL_VQ_GET, le16(0, 0)) == le32(2, 20)
    assert bench.limits()[2] == (1, 10)
    bench.ok(coal, ctrl.CTRL_NOTF_COAL_VQ_SET, le16(1, 0) + le32(3, 30))
    assert bench.limits()[3] == (0, 0)
    bench.ok(coal, ctrl.CTRL_NOTF_COAL_TX_SET, le32(4, 40))
    assert bench.ok(coal, ctrl.CTRL_NOTF_COAL_VQ_GET, le16(1, 0)) == le32(4, 40)
    assert bench.limits() == [(2, 20), (4, 40)] + [(1, 10), (4, 40)] * (PAIRS - 1)


def test_a_queue_that_is_enabled_again_has_the_general_limits(bench: Bench) -> None:
    bench.ok(ctrl.CTRL_NOTF_COAL, ctrl.CTRL_NOTF_COAL_VQ_SET, le16(0, 0) + le32(2, 20))
    bench.coalescing.enable(0)
    assert bench.limits()[0] == (0, 0)
    bench.ok(ctrl.CTRL_NOTF_COAL, ctrl.CTRL_NOTF_COAL_RX_SET, le32(1, 10))
    bench.ok(ctrl.CTRL_NOTF_COAL, ctrl.CTRL_NOTF_COAL_VQ_SET, le16(0, 0) + le32(2, 20))
    bench.coalescing.enable(0)
    bench.coalescing.enable(2 * PAIRS)  # the control queue has none
    assert bench.limits()[0] == (1, 10)
    bench.start(ALL)
    assert bench.limits() == [(0, 0)] * 2 * PAIRS


def test_coalescing_that_cannot_be(bench: Bench) -> None:
    coal = ctrl.CTRL_NOTF_COAL
    bench.disabled = {2}
    for number in (ctrl.CTRL_NOTF_COAL_RX_SET, ctrl.CTRL_NOTF_COAL_TX_SET):
        for data in (b"", bytes(7), bytes(9)):
            bench.refuses(coal, number, data)
    for index in (2, 2 * PAIRS, 0xFFFF):
        bench.refuses(coal, ctrl.CTRL_NOTF_COAL_VQ_SET, le16(index, 0) + le32(1, 1))
        bench.refuses(coal, ctrl.CTRL_NOTF_COAL_VQ_GET, le16(index, 0))
    bench.refuses(coal, ctrl.CTRL_NOTF_COAL_VQ_SET, le16(0, 0) + bytes(7))
    bench.refuses(coal, ctrl.CTRL_NOTF_COAL_VQ_GET, le16(0))
    bench.refuses(coal, ctrl.CTRL_NOTF_COAL_VQ_GET, le16(0, 0), room=8)  # seven bytes for eight


# Statistics.


def queue_stats(*asked: tuple[int, int]) -> bytes:
    return b"".join(le16(index, 0, 0, 0) + le64(types) for index, types in asked)


def test_which_statistics_there_are(bench: Bench) -> None:
    assert bench.ok(ctrl.CTRL_STATS, ctrl.CTRL_STATS_QUERY) == le64(mask(*KINDS))
    bench.refuses(ctrl.CTRL_STATS, ctrl.CTRL_STATS_QUERY, b"\0")
    bench.refuses(ctrl.CTRL_STATS, ctrl.CTRL_STATS_QUERY, room=8)


def test_the_control_queue_counts_commands(bench: Bench) -> None:
    bench.ask(99, 0)
    answer = bench.ok(ctrl.CTRL_STATS, ctrl.CTRL_STATS_GET, queue_stats((2 * PAIRS, stats.STATS_TYPE_CVQ)))
    found = stats.StatsCvq.unpack(answer)
    assert (found.hdr.type, found.hdr.vq_index, found.hdr.size) == (32, 2 * PAIRS, 24)
    assert (found.command_num, found.ok_num) == (2, 1)  # the present one included


def test_queues_count_frames(bench: Bench) -> None:
    bench.counters = {
        "kicks": 1,
        "frames": 2,
        "bytes": (1 << 64) + 3,
        "notifications": 4,
        "full": 5,
        "runt": 6,
    }
    types = stats.STATS_TYPE_RX_BASIC | stats.STATS_TYPE_RX_GSO
    answer = bench.ok(
        ctrl.CTRL_STATS, ctrl.CTRL_STATS_GET, queue_stats((2, types), (3, stats.STATS_TYPE_TX_BASIC))
    )
    received = stats.StatsRxBasic.unpack(answer)
    assert (received.hdr.type, received.hdr.vq_index, received.hdr.size) == (0, 2, stats.StatsRxBasic.SIZE)
    assert received.rx_notifications == 1
    assert (received.rx_packets, received.rx_bytes, received.rx_interrupts) == (2, 3, 4)
    assert (received.rx_drops, received.rx_drop_overruns) == (11, 5)
    rest = answer[stats.StatsRxBasic.SIZE :]
    assert stats.StatsRxGso.unpack(rest).hdr.type == stats.STATS_TYPE_REPLY_RX_GSO
    sent = stats.StatsTxBasic.unpack(rest[stats.StatsRxGso.SIZE :])
    assert (sent.hdr.vq_index, sent.tx_packets, sent.tx_drop_malformed) == (3, 2, 6)


# Every type: the counters it shows, and the bytes of its reply behind the header, number by number.
LAYOUTS = {
    stats.STATS_TYPE_REPLY_CVQ: (2 * PAIRS, {}, [1, 1]),
    stats.STATS_TYPE_REPLY_RX_BASIC: (
        0,
        {"kicks": 1, "frames": 2, "bytes": 3, "notifications": 4, "down": 5, "full": 6},
        [1, 2, 3, 4, 11, 6],
    ),
    stats.STATS_TYPE_REPLY_RX_CSUM: (2, {"frames": 9, "valid": 2, "partial": 4}, [2, 4, 3, 0]),
    stats.STATS_TYPE_REPLY_RX_GSO: (0, {"segmented": 7, "segmented_bytes": 8}, [7, 8, 0, 0]),
    stats.STATS_TYPE_REPLY_RX_SPEED: (0, {"full": 1}, [0, 0]),
    stats.STATS_TYPE_REPLY_TX_BASIC: (
        1,
        {"kicks": 1, "frames": 2, "bytes": 3, "notifications": 4, "header": 5, "down": 6},
        [1, 2, 3, 4, 11, 5],
    ),
    stats.STATS_TYPE_REPLY_TX_CSUM: (3, {"frames": 50, "sent": 9, "unsummed": 4}, [5, 4]),
    stats.STATS_TYPE_REPLY_TX_GSO: (
        1,
        {"cut": 1, "cut_bytes": 20, "segmented": 2, "segmented_bytes": 300, "pieces": 4, "piece_bytes": 25},
        [3, 320, 4, 25, 2, 300],
    ),
    stats.STATS_TYPE_REPLY_TX_SPEED: (1, {"full": 1}, [0, 0]),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_the_bytes_of_each_reply(bench: Bench, kind: int) -> None:
    index, bench.counters, wanted = LAYOUTS[kind]
    answer = bench.ok(ctrl.CTRL_STATS, ctrl.CTRL_STATS_GET, queue_stats((index, 1 << kind)))
    head = bytes([kind, 0]) + le16(index, 0, 8 + 8 * len(wanted))
    assert answer == head + le64(*wanted)


def test_every_type_is_known() -> None:
    assert set(LAYOUTS) == set(KINDS)
    named = {value for name, value in vars(stats).items() if name.startswith("STATS_TYPE_REPLY_")}
    assert named == set(KINDS)


def test_only_types_of_negotiated_features_are_named() -> None:
    bench = Bench(mask(spec.F_DEVICE_STATS, spec.F_GUEST_CSUM, spec.F_HOST_USO))
    always = {32, 0, 3, 16, 19}
    kinds = always | {stats.STATS_TYPE_REPLY_RX_CSUM, stats.STATS_TYPE_REPLY_TX_GSO}
    assert bench.ok(ctrl.CTRL_STATS, ctrl.CTRL_STATS_QUERY) == le64(mask(*kinds))
    for kind, (index, _, _) in LAYOUTS.items():
        answer = bench.ask(ctrl.CTRL_STATS, ctrl.CTRL_STATS_GET, queue_stats((index, 1 << kind)))
        assert (answer[0] == ctrl.OK) == (kind in kinds)


def test_only_whole_statistics_are_written(bench: Bench) -> None:
    asked = queue_stats((0, stats.STATS_TYPE_RX_BASIC), (2, stats.STATS_TYPE_RX_BASIC))
    size = stats.StatsRxBasic.SIZE
    for room, wanted in ((2 * size + 1, 2 * size), (2 * size, size), (size, 0), (1, 0)):
        assert len(bench.ok(ctrl.CTRL_STATS, ctrl.CTRL_STATS_GET, asked, room)) == wanted


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(15),
        queue_stats((2 * PAIRS + 1, 0)),
        queue_stats((0, stats.STATS_TYPE_TX_BASIC)),
        queue_stats((1, stats.STATS_TYPE_RX_BASIC)),
        queue_stats((0, 1 << 60)),
        queue_stats((0, stats.STATS_TYPE_RX_BASIC), (1, stats.STATS_TYPE_CVQ)),
    ],
)
def test_one_error_fails_all_statistics(bench: Bench, data: bytes) -> None:
    bench.refuses(ctrl.CTRL_STATS, ctrl.CTRL_STATS_GET, data)


def test_statistics_of_features_that_were_not_negotiated() -> None:
    bench = Bench(mask(spec.F_DEVICE_STATS))
    bench.ok(ctrl.CTRL_STATS, ctrl.CTRL_STATS_GET, queue_stats((0, stats.STATS_TYPE_RX_BASIC)))
    bench.refuses(ctrl.CTRL_STATS, ctrl.CTRL_STATS_GET, queue_stats((0, stats.STATS_TYPE_RX_GSO)))


# Any bytes.


def test_each_command_needs_its_feature() -> None:
    bench = Bench(0)
    for kind in range(12):
        for number in range(8):
            bench.refuses(kind, number, bytes(8))


classes = st.integers(0, 10) | st.integers(0, 255)
numbers = st.integers(0, 6) | st.integers(0, 255)


@settings(max_examples=400)
@given(
    commands=st.lists(
        st.tuples(classes, numbers, st.binary(max_size=40) | st.builds(rss), st.integers(1, 300)), max_size=6
    )
)
def test_any_commands(commands: list[tuple[int, int, bytes, int]]) -> None:
    bench = Bench()
    for kind, number, data, room in commands:
        before = dict(bench.nic.told), list(bench.macs), bench.limits()
        answer = bench.ask(kind, number, data, room)
        assert 1 <= len(answer) <= room
        if answer[0] != ctrl.OK:
            assert answer == bytes([ctrl.ERR])
            assert (dict(bench.nic.told), list(bench.macs), bench.limits()) == before
    assert bench.control.counters["commands"] == len(commands)


@given(command=st.binary(max_size=1))
def test_less_than_a_class_and_a_command(command: bytes) -> None:
    assert Bench().control.execute(command, 1) == bytes([ctrl.ERR])
