"""What a guest may not claim to be."""

from __future__ import annotations

import ipaddress
import random
import struct

import pytest

from virtio.errors import NetworkUrlError
from virtio.network import AntiSpoofLink, ImpairLink, LoopLink, NullLink, open_link
from virtio.testing.wire import Wire, put_frames

OWN_MAC = bytes.fromhex("525400000001")
OTHER_MAC = bytes.fromhex("525400000002")
OWN = "192.0.2.7"
OWN6 = "2001:db8::7"
LOCAL6 = "fe80::5054:ff:fe00:1"


def ip(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def ethernet(kind: int, payload: bytes, source: bytes = OWN_MAC, tags: tuple[int, ...] = ()) -> bytes:
    middle = b"".join(struct.pack(">HH", tag, 5) for tag in tags)
    return b"\xff" * 6 + source + middle + struct.pack(">H", kind) + payload


def ipv4(source: str, protocol: int = 6, payload: bytes = bytes(20), fragment: int = 0) -> bytes:
    size = 20 + len(payload)
    head = struct.pack(">BBHHHBBH", 0x45, 0, size, 1, fragment, 64, protocol, 0)
    return head + ip(source) + ip("198.51.100.1") + payload


def arp(mac: bytes, address: str, operation: int = 1) -> bytes:
    return struct.pack(">HHBBH", 1, 0x0800, 6, 4, operation) + mac + ip(address) + bytes(6) + ip("192.0.2.1")


def ipv6(source: str, kind: int = 6, payload: bytes = bytes(20)) -> bytes:
    return struct.pack(">IHBB", 6 << 28, len(payload), kind, 255) + ip(source) + ip("ff02::1") + payload


def neighbour(kind: int, target: str | None = None, option: int = 0, mac: bytes = OWN_MAC) -> bytes:
    body = bytes([kind, 0, 0, 0]) + bytes(4)
    body += ip(target) if target else bytes({133: 0, 134: 8, 137: 32}[kind])
    return body + (bytes([option, 1]) + mac if option else b"")


UDP_DHCP = struct.pack(">HHHH", 68, 67, 300, 0) + bytes(240)
PASSES = {
    "own ipv4": ethernet(0x0800, ipv4(OWN)),
    "own ipv6": ethernet(0x86DD, ipv6(OWN6)),
    "own arp": ethernet(0x0806, arp(OWN_MAC, OWN)),
    "arp probe": ethernet(0x0806, arp(OWN_MAC, "0.0.0.0")),
    "rarp": ethernet(0x8035, arp(OWN_MAC, "0.0.0.0", 3)),
    "dhcp": ethernet(0x0800, ipv4("0.0.0.0", 17, UDP_DHCP)),
    "tagged": ethernet(0x0800, ipv4(OWN), tags=(0x8100,)),
    "tagged twice": ethernet(0x86DD, ipv6(OWN6), tags=(0x88A8, 0x8100)),
    "solicitation": ethernet(0x86DD, ipv6(OWN6, 58, neighbour(135, "2001:db8::1", 1))),
    "advertisement": ethernet(0x86DD, ipv6(OWN6, 58, neighbour(136, OWN6, 2))),
    "duplicate detection": ethernet(0x86DD, ipv6("::", 58, neighbour(135, OWN6))),
    "router solicitation": ethernet(0x86DD, ipv6(LOCAL6, 58, neighbour(133, None, 1))),
    "router solicitation without address": ethernet(0x86DD, ipv6("::", 58, neighbour(133))),
    "group membership": ethernet(0x86DD, ipv6("::", 0, b"\x3a\0\x05\x02\0\0\0\0" + bytes([143]) + bytes(27))),
    "echo": ethernet(0x86DD, ipv6(OWN6, 58, bytes([128]) + bytes(7))),
    "fragment": ethernet(0x86DD, ipv6(OWN6, 44, b"\x3a\0\0\x09" + bytes(4) + bytes(8))),
}
WRONG_MACS = {
    "ethernet": ethernet(0x0800, ipv4(OWN), source=OTHER_MAC),
    "arp sender": ethernet(0x0806, arp(OTHER_MAC, OWN)),
    "arp probe": ethernet(0x0806, arp(OTHER_MAC, "0.0.0.0")),
    "tagged arp sender": ethernet(0x0806, arp(OTHER_MAC, OWN), tags=(0x8100,)),
    "rarp": ethernet(0x8035, arp(OTHER_MAC, "0.0.0.0", 3)),
    "solicitation": ethernet(0x86DD, ipv6(OWN6, 58, neighbour(135, "2001:db8::1", 1, OTHER_MAC))),
    "advertisement": ethernet(0x86DD, ipv6(OWN6, 58, neighbour(136, OWN6, 2, OTHER_MAC))),
    "second option": ethernet(0x86DD, ipv6(OWN6, 58, neighbour(136, OWN6, 2) + bytes([2, 1]) + OTHER_MAC)),
    "router advertisement": ethernet(0x86DD, ipv6(LOCAL6, 58, neighbour(134, None, 1, OTHER_MAC))),
    "runt": bytes(13),
}
WRONG_IPS = {
    "ipv4": ethernet(0x0800, ipv4("192.0.2.8")),
    "unspecified": ethernet(0x0800, ipv4("0.0.0.0")),
    "unspecified, not to a DHCP server": ethernet(
        0x0800, ipv4("0.0.0.0", 17, struct.pack(">4H", 68, 53, 8, 0))
    ),
    "fragment that looks like DHCP": ethernet(0x0800, ipv4("0.0.0.0", 17, UDP_DHCP, fragment=5)),
    "tagged": ethernet(0x0800, ipv4("192.0.2.8"), tags=(0x9100, 0x8100)),
    "arp": ethernet(0x0806, arp(OWN_MAC, "192.0.2.1", 2)),
    "short arp": ethernet(0x0806, arp(OWN_MAC, OWN)[:20]),
    "arp of other addresses": ethernet(0x0806, b"\0\x06" + arp(OWN_MAC, OWN)[2:]),
    "ipv6": ethernet(0x86DD, ipv6("2001:db8::8")),
    "ipv6 unspecified": ethernet(0x86DD, ipv6("::")),
    "echo without address": ethernet(0x86DD, ipv6("::", 58, bytes([128]) + bytes(7))),
    "advertisement for another": ethernet(0x86DD, ipv6(OWN6, 58, neighbour(136, "2001:db8::1", 2))),
    "the same behind options": ethernet(
        0x86DD, ipv6(OWN6, 60, b"\x3a\0" + bytes(6) + neighbour(136, "2001:db8::1", 2))
    ),
    "the same in parts": ethernet(
        0x86DD, ipv6(OWN6, 44, b"\x3a\0\0\x01" + bytes(4) + neighbour(136, OWN6, 2))
    ),
    "options that never end": ethernet(0x86DD, ipv6(OWN6, 0, b"\0\xff" + bytes(600))),
    "a short advertisement": ethernet(0x86DD, ipv6(OWN6, 58, neighbour(136, OWN6)[:20])),
    "an option of no length": ethernet(
        0x86DD, ipv6(OWN6, 58, neighbour(136, OWN6) + bytes([2, 0]) + OWN_MAC)
    ),
    "short ipv4": ethernet(0x0800, ipv4(OWN)[:19]),
    "short ipv6": ethernet(0x86DD, ipv6(OWN6)[:39]),
    "ipv6 as ipv4": ethernet(0x0800, ipv6(OWN6)),
    "ipv4 as ipv6": ethernet(0x86DD, ipv4(OWN) + bytes(40)),
    "another protocol": ethernet(0x88CC, bytes(46)),
    "more tags than there can be": ethernet(0x8100, b"\0\x05\x81\0" * 300),
}


def guarded(**options: list[str]) -> AntiSpoofLink:
    return AntiSpoofLink(NullLink(), **options)


BOTH = {"macs": ["52:54:00:00:00:01"], "ips": [OWN, OWN6, LOCAL6]}


def verdict(link: AntiSpoofLink, frame: bytes, cut: tuple[int, ...] = ()) -> str:
    assert put_frames(link, [frame], cut=cut) == 1
    stats = link.stats()
    return next((name for name in ("frames", "spoofed_mac", "spoofed_ip") if stats[name]), "")


@pytest.mark.parametrize("name", PASSES)
def test_what_is_the_guests_own_passes(name: str) -> None:
    assert verdict(guarded(**BOTH), PASSES[name]) == "frames"
    assert verdict(guarded(**BOTH), PASSES[name], (1, 13, 14, 20, 40)) == "frames"


@pytest.mark.parametrize("name", WRONG_MACS)
def test_other_macs_do_not(name: str) -> None:
    assert verdict(guarded(**BOTH), WRONG_MACS[name]) == "spoofed_mac"
    assert verdict(guarded(macs=BOTH["macs"]), WRONG_MACS[name]) == "spoofed_mac"
    assert verdict(guarded(ips=BOTH["ips"]), WRONG_MACS[name] + bytes(1)) in ("frames", "spoofed_ip")


@pytest.mark.parametrize("name", WRONG_IPS)
def test_other_addresses_do_not(name: str) -> None:
    assert verdict(guarded(**BOTH), WRONG_IPS[name]) == "spoofed_ip"
    assert verdict(guarded(**BOTH), WRONG_IPS[name], (3, 15, 33)) == "spoofed_ip"
    assert verdict(guarded(ips=BOTH["ips"]), WRONG_IPS[name]) == "spoofed_ip"


def test_a_mac_alone_leaves_addresses_and_protocols_free() -> None:
    link = guarded(macs=BOTH["macs"])
    frames = [ethernet(0x0800, ipv4("10.0.0.1")), ethernet(0x88CC, bytes(46)), ethernet(0x86DD, ipv6("::1"))]
    put_frames(link, [*frames, ethernet(0x0800, bytes(3))])
    assert link.stats()["frames"] == 4


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
        ("192.0.2.128/25", "192.0.2.129", "192.0.2.127"),
        ("10.0.0.0/9", "10.127.0.1", "10.128.0.1"),
        ("0.0.0.0/0", "203.0.113.5", None),
    ],
)
def test_networks(network: str, inside: str, outside: str | None) -> None:
    assert verdict(guarded(ips=[network]), ethernet(0x0800, ipv4(inside))) == "frames"
    if outside is not None:
        assert verdict(guarded(ips=[network]), ethernet(0x0800, ipv4(outside))) == "spoofed_ip"
    assert verdict(guarded(ips=[network]), ethernet(0x86DD, ipv6(OWN6))) == "spoofed_ip"


def test_a_prefix_of_ipv6() -> None:
    link = guarded(ips=["2001:db8:0:40::/58"])
    frames = [ethernet(0x86DD, ipv6(f"2001:db8:0:{part:x}::1")) for part in (0x3F, 0x40, 0x7F, 0x80)]
    put_frames(link, frames)
    assert (link.stats()["frames"], link.stats()["spoofed_ip"]) == (2, 2)


def test_order_and_what_comes_in() -> None:
    guest = Wire()
    link = AntiSpoofLink(LoopLink(), **BOTH)
    link.connect(guest)
    good, bad = [frame + bytes([n]) for n, frame in enumerate(PASSES.values())], list(WRONG_IPS.values())
    mixed = [frame for pair in zip(good, bad, strict=False) for frame in pair]
    assert put_frames(link, mixed) == len(mixed)
    assert [seen.data for seen in guest.frames] == good


@pytest.mark.parametrize("room", [1, 2, 3, 7])
def test_the_number_taken_tells_where_to_go_on(room: int) -> None:
    good, bad = PASSES["own ipv4"], WRONG_IPS["ipv4"]
    frames = [bad, good, good + b"2", bad, bad, good + b"3", bad, good + b"4", good + b"5", bad]
    world, inner = Wire(room=room), ImpairLink(NullLink())
    inner.outwards.aim(world)
    link = AntiSpoofLink(inner, **BOTH)
    seen: list[bytes] = []
    for _ in range(len(frames)):
        frames = frames[put_frames(link, frames) :]
        seen += [came.data for came in world.frames]
        world.take()
    assert frames == []
    assert seen == [good, *(good + digit for digit in (b"2", b"3", b"4", b"5"))]
    assert link.stats()["spoofed_ip"] == 5


def test_addresses_by_url() -> None:
    link = open_link(f"null:?only-mac=52:54:00:00:00:01,52-54-00-00-00-02&only-ip={OWN},10.0.0.0/8,{OWN6}")
    frames = [ethernet(0x0800, ipv4(OWN), OTHER_MAC), ethernet(0x0800, ipv4("10.9.9.9"), OTHER_MAC)]
    put_frames(link, [*frames, ethernet(0x0800, ipv4("11.0.0.1"))])
    assert (link.stats()["frames"], link.stats()["spoofed_ip"]) == (2, 1)
    with pytest.raises(NetworkUrlError, match="at most 64"):
        open_link("null:?only-ip=" + ",".join(f"10.0.0.{n}" for n in range(65)))


def test_no_frame_breaks_it() -> None:
    chance = random.Random(3)
    seeds = [*PASSES.values(), *WRONG_MACS.values(), *WRONG_IPS.values()]
    link = guarded(**BOTH)
    for _ in range(100):
        frames = []
        for _ in range(50):
            frame = bytearray(chance.choice(seeds))
            for _ in range(chance.randint(0, 5)):
                frame[chance.randrange(len(frame))] = chance.randrange(256)
            frames.append(bytes(frame[: chance.randint(1, len(frame))]))
        assert put_frames(link, frames) == 50
    stats = link.stats()
    assert stats["frames"] + stats["spoofed_mac"] + stats["spoofed_ip"] == 5000
