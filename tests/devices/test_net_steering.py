"""Hashes against the published vectors and a plain model; automatic steering and RSS."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtio.devices.net.steering import FlowSteering, RssSteering, Steering
from virtio.devices.net.toeplitz import Hasher
from virtio.errors import UsageError
from virtio.spec import net as spec

# The key and the vectors with which RSS implementations are verified (Microsoft, "Verifying the RSS Hash
# Calculation").
KEY = bytes.fromhex(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa",
)
VECTORS_V4 = [
    ("66.9.149.187", 2794, "161.142.100.80", 1766, 0x323E8FC2, 0x51CCC178),
    ("199.92.111.2", 14230, "65.69.140.83", 4739, 0xD718262A, 0xC626B0EA),
    ("24.19.198.95", 12898, "12.22.207.184", 38024, 0xD2D0A5DE, 0x5C2B394A),
    ("38.27.205.30", 48228, "209.142.163.6", 2217, 0x82989176, 0xAFC7327F),
    ("153.39.163.191", 44251, "202.188.127.2", 1303, 0x5D1809C5, 0x10E828A2),
]
VECTORS_V6 = [
    ("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x2CC18CD5, 0x40207D3D),
    ("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739, 0x0F0C461C, 0xDDE51BBF),
    ("3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, "fe80::200:f8ff:fe21:67cf", 38024, 0x4B61E985, 0x02D1FEEF),
]
ALL_TYPES = 0x1FF
TCP, UDP, ICMP, GRE = 6, 17, 1, 47


def ip(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def ethernet(ethertype: int, payload: bytes, *tags: int) -> bytes:
    head = bytes(12) + b"".join(tag.to_bytes(2, "big") + b"\x00\x05" for tag in tags)
    return head + ethertype.to_bytes(2, "big") + payload


def ipv4(
    source: str, target: str, protocol: int, payload: bytes, *, offset: int = 0, options: int = 0
) -> bytes:
    length = 20 + 4 * options
    head = struct.pack(">BBHHHBBH", 0x45 + options, 0, length + len(payload), 0, offset, 64, protocol, 0)
    return head + ip(source) + ip(target) + bytes(4 * options) + payload


def ipv6(source: str, target: str, protocol: int, payload: bytes) -> bytes:
    return struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64) + ip(source) + ip(target) + payload


def ports(source: int, target: int) -> bytes:
    return struct.pack(">HH", source, target) + bytes(16)


def toeplitz(key: bytes, data: bytes) -> int:
    """Straight from its definition."""
    number = int.from_bytes(key.ljust(40, b"\0"), "big")
    total = 0
    for bit in range(8 * len(data)):
        if data[bit // 8] & 0x80 >> bit % 8:
            total ^= number >> (320 - 32 - bit) & 0xFFFFFFFF
    return total


@pytest.mark.parametrize(("source", "port", "target", "to_port", "addresses", "with_ports"), VECTORS_V4)
def test_published_vectors_ipv4(
    source: str, port: int, target: str, to_port: int, addresses: int, with_ports: int
) -> None:
    segment = ethernet(0x0800, ipv4(source, target, TCP, ports(port, to_port)))
    datagram = ethernet(0x0800, ipv4(source, target, UDP, ports(port, to_port)))
    everything = Hasher(KEY, ALL_TYPES)
    assert everything.hash_of(segment) == (with_ports, spec.HASH_REPORT_TCPv4)
    assert everything.hash_of(datagram) == (with_ports, spec.HASH_REPORT_UDPv4)
    assert Hasher(KEY, spec.HASH_TYPE_IPv4).hash_of(segment) == (addresses, spec.HASH_REPORT_IPv4)


@pytest.mark.parametrize(("source", "port", "target", "to_port", "addresses", "with_ports"), VECTORS_V6)
def test_published_vectors_ipv6(
    source: str, port: int, target: str, to_port: int, addresses: int, with_ports: int
) -> None:
    segment = ethernet(0x86DD, ipv6(source, target, TCP, ports(port, to_port)))
    datagram = ethernet(0x86DD, ipv6(source, target, UDP, ports(port, to_port)))
    everything = Hasher(KEY, ALL_TYPES)
    assert everything.hash_of(segment) == (with_ports, spec.HASH_REPORT_TCPv6)
    assert everything.hash_of(datagram) == (with_ports, spec.HASH_REPORT_UDPv6)
    assert Hasher(KEY, spec.HASH_TYPE_IPv6).hash_of(segment) == (addresses, spec.HASH_REPORT_IPv6)


@given(
    key=st.binary(max_size=40),
    addresses=st.binary(min_size=8, max_size=8),
    flow=st.binary(min_size=4, max_size=4),
)
def test_any_key(key: bytes, addresses: bytes, flow: bytes) -> None:
    packet = ipv4("0.0.0.0", "0.0.0.0", UDP, flow + bytes(8))
    packet = packet[:12] + addresses + packet[20:]
    found = Hasher(key, ALL_TYPES).hash_of(ethernet(0x0800, packet))
    assert found == (toeplitz(key, addresses + flow), spec.HASH_REPORT_UDPv4)


A, B = "10.0.0.1", "10.0.0.2"
A6, B6, HOME, ROUTE = "2001:db8::1", "2001:db8::2", "2001:db8::77", "2001:db8::88"
V4 = ip(A) + ip(B)
V6 = ip(A6) + ip(B6)
PORTS = struct.pack(">HH", 1000, 2000)
HOP = bytes([TCP, 0]) + bytes(6)
DESTINATION = bytes([TCP, 2, 1, 2, 0, 0, 201, 16]) + ip(HOME)
ROUTING = bytes([TCP, 2, 2, 1, 0, 0, 0, 0]) + ip(ROUTE)
FRAGMENT = bytes([TCP, 0, 0, 0]) + bytes(4)
EX = {"home": ip(HOME) + ip(B6), "route": ip(A6) + ip(ROUTE)}


def report_of(types: int, packet: bytes, ethertype: int = 0x0800) -> tuple[int, int]:
    return Hasher(KEY, types).hash_of(ethernet(ethertype, packet))


@pytest.mark.parametrize(
    ("packet", "data", "report"),
    [
        (ipv4(A, B, ICMP, ports(8, 0)), V4, spec.HASH_REPORT_IPv4),
        (
            ipv4(A, B, TCP, ports(1000, 2000), offset=0x4000),
            V4 + PORTS,
            spec.HASH_REPORT_TCPv4,
        ),  # do not fragment
        (ipv4(A, B, TCP, ports(1000, 2000), offset=0x2000), V4, spec.HASH_REPORT_IPv4),  # more fragments
        (ipv4(A, B, TCP, ports(1000, 2000), offset=100), V4, spec.HASH_REPORT_IPv4),
        (ipv4(A, B, UDP, ports(1000, 2000), options=10), V4 + PORTS, spec.HASH_REPORT_UDPv4),
        (ipv4(A, B, TCP, b"\0\1\0"), V4, spec.HASH_REPORT_IPv4),  # ports cut short
    ],
)
def test_ipv4(packet: bytes, data: bytes, report: int) -> None:
    assert report_of(ALL_TYPES, packet) == (toeplitz(KEY, data), report)


@pytest.mark.parametrize(
    ("first", "extension", "data", "report"),
    [
        (0, HOP, V6 + PORTS, spec.HASH_REPORT_TCPv6_EX),
        (60, DESTINATION, EX["home"] + PORTS, spec.HASH_REPORT_TCPv6_EX),
        (43, ROUTING, EX["route"] + PORTS, spec.HASH_REPORT_TCPv6_EX),
        (43, bytes([UDP]) + ROUTING[1:], EX["route"] + PORTS, spec.HASH_REPORT_UDPv6_EX),
        (44, FRAGMENT, V6, spec.HASH_REPORT_IPv6_EX),
        (0, bytes([43, 0]) + bytes(6) + ROUTING, EX["route"] + PORTS, spec.HASH_REPORT_TCPv6_EX),
        (60, bytes([58, 2]) + DESTINATION[2:], EX["home"], spec.HASH_REPORT_IPv6_EX),
        (0, HOP[:1] + b"\xff" + HOP[2:], V6, spec.HASH_REPORT_IPv6_EX),  # longer than the packet
        (51, bytes([TCP, 4]) + bytes(22), V6 + PORTS, spec.HASH_REPORT_TCPv6_EX),
    ],
)
def test_ipv6_with_extension_headers(first: int, extension: bytes, data: bytes, report: int) -> None:
    packet = ipv6(A6, B6, first, extension + ports(1000, 2000))
    assert report_of(ALL_TYPES, packet, 0x86DD) == (toeplitz(KEY, data), report)


def test_extension_headers_are_skipped_where_their_types_are_off() -> None:
    packet = ipv6(A6, B6, 60, DESTINATION + ports(1000, 2000))
    plain = spec.HASH_TYPE_IPv6 | spec.HASH_TYPE_TCPv6
    assert report_of(plain, packet, 0x86DD) == (toeplitz(KEY, V6 + PORTS), spec.HASH_REPORT_TCPv6)
    mixed = plain | spec.HASH_TYPE_IP_EX
    assert report_of(mixed, packet, 0x86DD) == (toeplitz(KEY, EX["home"]), spec.HASH_REPORT_IPv6_EX)


def test_types_that_are_off_have_no_hash() -> None:
    packet = ipv4(A, B, TCP, ports(1000, 2000))
    for types in (0, spec.HASH_TYPE_UDPv4, spec.HASH_TYPE_IPv6 | spec.HASH_TYPE_TCPv6):
        assert report_of(types, packet) == (0, 0)
    assert report_of(ALL_TYPES, b"\0\1" * 14, 0x0806) == (0, 0)


@pytest.mark.parametrize("tags", [(0x8100,), (0x88A8, 0x8100)])
def test_vlan_tags_are_skipped(tags: tuple[int, ...]) -> None:
    packet = ipv4(A, B, TCP, ports(1000, 2000))
    tagged = ethernet(0x0800, packet, *tags)
    assert Hasher(KEY, ALL_TYPES).hash_of(tagged) == report_of(ALL_TYPES, packet)


INNER = ipv4(A, B, TCP, ports(1000, 2000))
INNER_HASH = (toeplitz(KEY, V4 + PORTS), spec.HASH_REPORT_TCPv4)
INNER_FRAME = ethernet(0x0800, INNER)
OUT, BACK = "192.0.2.1", "192.0.2.2"


def udp(port: int, payload: bytes) -> bytes:
    return struct.pack(">HHHH", 9, port, 8 + len(payload), 0) + payload


TUNNELS = [
    (spec.HASH_TUNNEL_TYPE_IPIP, 4, INNER),
    (spec.HASH_TUNNEL_TYPE_GRE_2784, GRE, b"\0\0\x08\0" + INNER),
    (spec.HASH_TUNNEL_TYPE_GRE_2784, GRE, b"\x80\0\x08\0" + bytes(4) + INNER),
    (spec.HASH_TUNNEL_TYPE_GRE_2890, GRE, b"\x30\0\x08\0" + bytes(8) + INNER),
    (spec.HASH_TUNNEL_TYPE_NVGRE, GRE, b"\x20\0\x65\x58" + bytes(4) + INNER_FRAME),
    (spec.HASH_TUNNEL_TYPE_GRE_UDP, UDP, udp(4754, b"\0\0\x08\0" + INNER)),
    (spec.HASH_TUNNEL_TYPE_VXLAN, UDP, udp(4789, b"\x08" + bytes(7) + INNER_FRAME)),
    (spec.HASH_TUNNEL_TYPE_VXLAN_GPE, UDP, udp(4790, b"\x0c\0\0\3" + bytes(4) + INNER_FRAME)),
    (spec.HASH_TUNNEL_TYPE_VXLAN_GPE, UDP, udp(4790, b"\x0c\0\0\1" + bytes(4) + INNER)),
    (spec.HASH_TUNNEL_TYPE_GENEVE, UDP, udp(6081, b"\2\0\x65\x58" + bytes(12) + INNER_FRAME)),
]


@pytest.mark.parametrize(("kind", "protocol", "payload"), TUNNELS)
def test_the_inner_packet_of_enabled_tunnels(kind: int, protocol: int, payload: bytes) -> None:
    outer = ethernet(0x0800, ipv4(OUT, BACK, protocol, payload))
    assert Hasher(KEY, ALL_TYPES, kind).hash_of(outer) == INNER_HASH
    plain = Hasher(KEY, ALL_TYPES).hash_of(outer)
    assert plain != INNER_HASH
    also = spec.HASH_TUNNEL_TYPE_GRE_2890 if kind == spec.HASH_TUNNEL_TYPE_NVGRE else 0  # which it is, too
    assert Hasher(KEY, ALL_TYPES, 0x1FF & ~kind & ~also).hash_of(outer) == plain


def test_gre_over_ipv6() -> None:
    outer = ethernet(0x86DD, ipv6(A6, B6, GRE, b"\0\0\x08\0" + INNER))
    assert Hasher(KEY, ALL_TYPES, spec.HASH_TUNNEL_TYPE_GRE_7676).hash_of(outer) == INNER_HASH


@given(
    data=st.binary(max_size=120),
    ethertype=st.sampled_from([0x0800, 0x86DD, 0x8100]),
    tunnels=st.integers(0, 0x1FF),
)
def test_no_frame_is_read_past_its_end(data: bytes, ethertype: int, tunnels: int) -> None:
    version = b"\x45" if ethertype == 0x0800 else b"\x60"
    value, report = Hasher(KEY, ALL_TYPES, tunnels).hash_of(ethernet(ethertype, version + data))
    assert 0 <= report <= spec.HASH_REPORT_UDPv6_EX
    assert report or value == 0


@given(cut=st.integers(0, 200), tunnel=st.sampled_from(TUNNELS))
def test_no_tunnel_is_read_past_its_end(cut: int, tunnel: tuple[int, int, bytes]) -> None:
    kind, protocol, payload = tunnel
    outer = ethernet(0x0800, ipv4(OUT, BACK, protocol, payload))[:cut]
    assert Hasher(KEY, ALL_TYPES, kind).hash_of(outer)[1] <= spec.HASH_REPORT_UDPv6_EX


def test_a_key_has_forty_bytes_at_most() -> None:
    with pytest.raises(UsageError):
        Hasher(bytes(41), 0)


# Steering.

PAUSE = 20  # milliseconds: a flow that nothing has come in of for so long may change its queue
PATIENCE = 200  # and one that nothing was sent of on its queue for so long
WRAPS = 1 << 32


def flow(number: int, *, back: bool = False, protocol: int = TCP) -> bytes:
    there, here = ("10.1.0.1", 4000 + number), ("10.1.0.2", 80)
    (source, port), (target, to) = (here, there) if back else (there, here)
    return ethernet(0x0800, ipv4(source, target, protocol, ports(port, to)))


def test_without_several_queues() -> None:
    assert Steering().pick(flow(1)) == (0, 0, 0)
    hasher = Hasher(KEY, ALL_TYPES)
    assert Steering(hasher).pick(flow(1)) == (0, *hasher.hash_of(flow(1)))


def test_a_flow_comes_back_on_the_queue_it_went_out_on() -> None:
    steering = FlowSteering(4)
    steering.learn(3, flow(1), 1000)
    assert steering.pick(flow(1, back=True), 1000)[0] == 3
    steering.learn(2, flow(1), 1000 + PAUSE)
    assert steering.pick(flow(1, back=True), 1000 + PAUSE)[0] == 2
    steering.learn(4, flow(1), 1000 + 2 * PAUSE)  # not among its queues
    assert steering.pick(flow(1, back=True), 1000 + 2 * PAUSE)[0] == 2


@pytest.mark.parametrize("begin", [1000, WRAPS - 1000])
def test_a_flow_under_way_stays_on_its_queue(begin: int) -> None:
    steering = FlowSteering(4)
    steering.learn(3, flow(1), begin)
    for number, pair in enumerate((2, 3, 1) * 200):
        now = (begin + number * (PAUSE - 1)) % WRAPS
        assert steering.pick(flow(1, back=True), now)[0] == 3
        steering.learn(pair, flow(1), (now - 1) % WRAPS)  # by another thread, which looked earlier
        assert steering.pick(flow(1, back=True), now)[0] == 3


@pytest.mark.parametrize("begin", [1000, WRAPS - 100])
def test_a_flow_that_is_sent_on_another_queue_only_moves_without_a_pause(begin: int) -> None:
    steering = FlowSteering(4)
    steering.learn(3, flow(1), begin)
    for later in range(PATIENCE):
        now = (begin + later) % WRAPS
        assert steering.pick(flow(1, back=True), now)[0] == 3
        steering.learn(2, flow(1), now)
    steering.learn(2, flow(1), (begin + PATIENCE) % WRAPS)
    assert steering.pick(flow(1, back=True), (begin + PATIENCE) % WRAPS)[0] == 2


def test_unknown_flows_stay_together_and_spread() -> None:
    steering = FlowSteering(4, Hasher(KEY, ALL_TYPES))
    found = {number: steering.pick(flow(number)) for number in range(200)}
    assert {pair for pair, _, _ in found.values()} == {0, 1, 2, 3}
    assert all(steering.pick(flow(number, back=True))[0] == found[number][0] for number in found)
    assert all(report == spec.HASH_REPORT_TCPv4 for _, _, report in found.values())


def test_what_is_no_ip_packet_goes_to_the_first_queue() -> None:
    steering = FlowSteering(4)
    arp = ethernet(0x0806, bytes(28))
    steering.learn(2, arp)
    assert steering.pick(arp) == (0, 0, 0)
    assert steering.pick(b"") == (0, 0, 0)


@pytest.mark.parametrize("pairs", [0, 0x8001])
def test_pairs_are_at_least_one(pairs: int) -> None:
    with pytest.raises(UsageError):
        FlowSteering(pairs)


def test_rss_follows_the_table() -> None:
    hasher = Hasher(KEY, ALL_TYPES)
    table = [number * 7 % 5 for number in range(128)]
    steering = RssSteering(hasher, table, unclassified=4)
    for number in range(100):
        value, report = hasher.hash_of(flow(number))
        assert steering.pick(flow(number)) == (table[value & 127], value, report)
    assert steering.pick(ethernet(0x0806, bytes(28))) == (4, 0, 0)


@pytest.mark.parametrize("size", [0, 3, 100])
def test_a_table_has_a_power_of_two_of_entries(size: int) -> None:
    with pytest.raises(UsageError):
        RssSteering(Hasher(KEY, 0), [0] * size, 0)
