"""What an allow-list lets through, frame by frame."""

import ipaddress
import socket
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtio.errors import NetworkUrlError
from virtio.network import Link, open_link
from virtio.network.allow import AllowLink
from virtio.network.dns import NotDnsError, parse_answer, parse_query
from virtio.network.packet import Datagram, checksum, parse_udp, udp_frame
from virtio.network.policy import Policy
from virtio.testing.wire import Wire, put_frames

GUEST_MAC, HOST_MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
RESOLVER, GUEST = "192.0.2.53", "192.0.2.2"


def datagram(
    target: str, port: int, data: bytes = b"", *, source_port: int = 4000, mine: str = ""
) -> Datagram:
    source = mine or ("2001:db8::2" if ":" in target else GUEST)
    ends = ipaddress.ip_address(source), ipaddress.ip_address(target)
    return Datagram(GUEST_MAC, HOST_MAC, *ends, source_port, port, data)


def udp(target: str, port: int = 9, data: bytes = b"", **more: object) -> bytes:
    return udp_frame(datagram(target, port, data, **more))  # type: ignore[arg-type]


def tcp(source: str, target: str, ports: tuple[int, int], flags: int) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0)
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    body = struct.pack("!HHIIBBHHH", *ports, 1, 0, 0x50, flags, 1000, 0, 0)
    return HOST_MAC + GUEST_MAC + b"\x08\x00" + header + addresses + body


def name_bytes(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def query(name: str, number: int = 7, kind: int = 1) -> bytes:
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + name_bytes(name) + struct.pack("!HH", kind, 1)


def answer(name: str, addresses: list[str], *, number: int = 7, alias: str = "", seconds: int = 60) -> bytes:
    records, owner, count = b"", b"\xc0\x0c", len(addresses)
    if alias:
        records += owner + struct.pack("!HHIH", 5, 1, seconds, len(name_bytes(alias))) + name_bytes(alias)
        owner, count = name_bytes(alias), count + 1
    for text in addresses:
        packed = ipaddress.ip_address(text).packed
        records += (
            owner + struct.pack("!HHIH", 1 if len(packed) == 4 else 28, 1, seconds, len(packed)) + packed
        )
    head = struct.pack("!6H", number, 0x8180, 1, count, 0, 0) + name_bytes(name) + struct.pack("!HH", 1, 1)
    return head + records


class Rig:
    def __init__(self, allowed: list[str], resolvers: list[str] | None = None) -> None:
        self.now = 1000.0
        self.policy = Policy(allowed, [RESOLVER] if resolvers is None else resolvers, clock=lambda: self.now)
        self.world = open_link("loop:")
        self.link = AllowLink(self.world, self.policy)
        self.nic = Wire(self.link)

    def passes(self, *frames: bytes) -> list[bool]:
        """Which frames come out; the world sends them back."""
        out = []
        for frame in frames:
            assert self.nic.send([frame], cut=5) == 1
            out.append(frame in [came.data for came in self.nic.take()])
        return out

    def comes(self, *frames: bytes) -> None:
        """Frames come from the world, and pass."""
        assert put_frames(self.world, list(frames)) == len(frames)
        assert [came.data for came in self.nic.take()] == list(frames)

    def resolve(self, name: str, addresses: list[str], **more: object) -> None:
        assert self.passes(udp(RESOLVER, 53, query(name))) == [True]
        self.comes(udp_frame(datagram(RESOLVER, 53).reply(answer(name, addresses, **more))))  # type: ignore[arg-type]


def test_addresses_and_networks() -> None:
    rig = Rig(["198.51.100.7", "203.0.113.0/24", "2001:db8:1::/48"])
    assert rig.passes(udp("198.51.100.7"), udp("198.51.100.8"), udp("203.0.113.200")) == [True, False, True]
    assert rig.passes(udp("2001:db8:1::5"), udp("2001:db8:2::5")) == [True, False]
    assert rig.passes(tcp(GUEST, "198.51.100.7", (5, 80), 2), tcp(GUEST, "192.0.2.1", (5, 80), 2)) == [
        True,
        False,
    ]
    assert rig.link.stats()["denied"] == 3


def test_what_a_network_needs_to_come_up() -> None:
    rig = Rig([])
    arp = b"\xff" * 6 + GUEST_MAC + b"\x08\x06" + bytes(28)
    assert rig.passes(arp, udp("255.255.255.255", 67)) == [True, True]
    solicit = HOST_MAC + GUEST_MAC + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, 24, 58, 255) + bytes(32)
    assert rig.passes(solicit + b"\x87" + bytes(23), solicit + b"\x80" + bytes(23)) == [True, False]
    far = bytearray(solicit + b"\x87" + bytes(23))
    far[21] = 64
    assert rig.passes(bytes(far)) == [False]
    assert rig.passes(udp("ff02::1:2", 547), udp("2001:db8::9", 547)) == [True, False]


@pytest.mark.parametrize(
    "frame",
    [
        udp("192.0.2.9", 67),
        HOST_MAC + GUEST_MAC + b"\x81\x00\0\1\x08\x00" + bytes(40),
        HOST_MAC + GUEST_MAC + b"\x88\xb5" + bytes(40),
        HOST_MAC + GUEST_MAC + b"\x08\x00" + b"\x41" + bytes(40),
        HOST_MAC + GUEST_MAC + b"\x08\x00" + b"\x65" + bytes(40),
        HOST_MAC + GUEST_MAC + b"\x08\x00",
        HOST_MAC + GUEST_MAC + b"\x86\xdd" + bytes(60),
        bytes(13),
        b"",
        udp("255.255.255.255", 67)[:20] + b"\x20\x00" + udp("255.255.255.255", 67)[22:],  # a fragment
        udp(RESOLVER, 53, query("example.org"))[:20]
        + b"\x20\0"
        + udp(RESOLVER, 53, query("example.org"))[22:],
        tcp(GUEST, RESOLVER, (5, 53), 2),
    ],
)
def test_what_never_passes(frame: bytes) -> None:
    assert Rig(["example.org"]).passes(frame) == [False]


def test_names_are_asked_for_and_their_addresses_allowed() -> None:
    rig = Rig(["example.org", "*.example.net"])
    web = udp("198.51.100.7", 443)
    assert rig.passes(web) == [False]
    rig.resolve("example.org", ["198.51.100.7", "2001:db8::7"])
    assert rig.passes(web, udp("2001:db8::7", 443), udp("198.51.100.8")) == [True, True, False]
    rig.resolve("a.b.example.net", ["198.51.100.9"], alias="cdn.example.com")
    assert rig.passes(udp("198.51.100.9")) == [True]


def test_an_address_is_allowed_for_its_time_and_a_conversation_goes_on() -> None:
    rig = Rig(["example.org"])
    rig.resolve("example.org", ["198.51.100.7"], seconds=30)
    first = udp("198.51.100.7", 443, source_port=5000)
    assert rig.passes(first) == [True]
    rig.now += 31
    assert rig.passes(first, udp("198.51.100.7", 443, source_port=5001)) == [True, False]


def test_another_name_is_refused_at_once() -> None:
    rig = Rig(["example.org"])
    for name in ("example.com", "sub.example.org", "notexample.org"):
        asked = udp(RESOLVER, 53, query(name, 99))
        rig.nic.send([asked])
        (came,) = rig.nic.take()
        reply = parse_udp(came.data)
        assert reply is not None
        assert reply == datagram(RESOLVER, 53).reply(reply.data)
        assert struct.unpack_from("!HH", reply.data) == (99, 0x8105)
        assert checksum(came.data[14:34]) == 0
    assert rig.link.stats()["refused_queries"] == 3


def test_answers_that_nobody_asked_for_teach_nothing() -> None:
    rig = Rig(["example.org"])
    forged = answer("example.org", ["198.51.100.7"])
    rig.comes(udp_frame(datagram(RESOLVER, 53).reply(forged)))
    assert rig.passes(udp("198.51.100.7")) == [False]
    for change in (
        answer("example.org", ["198.51.100.7"], number=8),  # another question's
        answer("example.com", ["198.51.100.7"]),  # another name's
    ):
        rig.passes(udp(RESOLVER, 53, query("example.org")))
        rig.comes(udp_frame(datagram(RESOLVER, 53).reply(change)))
        assert rig.passes(udp("198.51.100.7")) == [False]
    rig.passes(udp(RESOLVER, 53, query("example.org")))
    rig.comes(udp_frame(datagram("198.51.100.66", 53).reply(forged)))  # another resolver's
    assert rig.passes(udp("198.51.100.7")) == [False]


def test_resolvers_that_are_unknown_are_not_asked() -> None:
    rig = Rig(["example.org"], [])
    asked = udp(RESOLVER, 53, query("example.org"))
    assert rig.passes(asked) == [False]
    options = bytes([53, 1, 5, 0, 6, 4, *socket.inet_aton(RESOLVER), 255])
    ack = bytes(236) + b"\x63\x82\x53\x63" + options
    offer = datagram("255.255.255.255", 67, source_port=68).reply(ack)
    rig.comes(udp_frame(offer))
    assert rig.passes(asked) == [True]
    advertised = (
        bytes([25, 3]) + bytes(2) + struct.pack("!I", 600) + ipaddress.ip_address("2001:db8::53").packed
    )
    header = struct.pack("!IHBB", 6 << 28, 16 + len(advertised), 58, 255) + bytes(32)
    rig.comes(GUEST_MAC + HOST_MAC + b"\x86\xdd" + header + b"\x86" + bytes(15) + advertised)
    assert rig.passes(udp("2001:db8::53", 53, query("example.org"))) == [True]


def test_whoever_begins_is_answered() -> None:
    rig = Rig([])
    reply = tcp(GUEST, "192.0.2.1", (80, 5555), 0x12)
    assert rig.passes(reply) == [False]
    rig.comes(tcp("192.0.2.1", GUEST, (5555, 80), 0x10))  # no beginning
    assert rig.passes(reply) == [False]
    rig.comes(tcp("192.0.2.1", GUEST, (5555, 80), 0x02))
    assert rig.passes(reply, tcp(GUEST, "192.0.2.1", (80, 5556), 0x12)) == [True, False]
    rig.comes(udp_frame(datagram("192.0.2.1", 6666, source_port=69).reply(b"x")))
    assert rig.passes(udp("192.0.2.1", 6666, source_port=69), udp("192.0.2.1", 6667, source_port=69)) == [
        True,
        False,
    ]


def test_a_burst_keeps_its_order() -> None:
    rig = Rig(["198.51.100.7"])
    good = [udp("198.51.100.7", data=bytes([number])) for number in range(6)]
    bad = udp("198.51.100.8")
    assert rig.nic.send([bad, *good[:2], bad, bad, *good[2:], bad]) == 10
    assert [came.data for came in rig.nic.take()] == good


def test_what_finds_no_room_is_the_callers_again(opened: Callable[[str], Link]) -> None:
    ours, theirs = socket.socketpair(type=socket.SOCK_DGRAM)
    with theirs:
        nic = Wire(opened(f"dgram:?fd={ours.detach()}&allow=198.51.100.7"))
        frames = [udp("198.51.100.7", data=struct.pack("!I", number)) for number in range(3000)]
        frames[1::2] = [udp("198.51.100.8")] * 1500
        expected = frames[::2]
        got = []
        while frames:
            taken = nic.send(frames)
            assert taken < 3000
            frames = frames[taken:]
            theirs.setblocking(False)
            while got[-1:] != expected[-1:]:
                try:
                    got.append(theirs.recv(2000))
                except BlockingIOError:
                    break
        assert got == expected
        assert nic.link.stats()["denied"] == 1500


def test_by_url(opened: Callable[[str], Link]) -> None:
    nic = Wire(opened("loop:?allow=198.51.100.7+example.org&resolver=192.0.2.53"))
    assert nic.send([udp("198.51.100.7"), udp("198.51.100.8")]) == 2
    assert [came.data for came in nic.take()] == [udp("198.51.100.7")]
    assert nic.link.name == "loop:"
    assert nic.link.up


@pytest.mark.parametrize("url", ["loop:?allow=a_b!", "loop:?allow=..", "loop:?allow=x&resolver=name"])
def test_lists_that_make_no_sense(url: str) -> None:
    with pytest.raises(NetworkUrlError):
        open_link(url)


@given(st.binary(max_size=120))
def test_any_bytes_are_a_question_or_none(data: bytes) -> None:
    for parse in (parse_query, parse_answer):
        try:
            parse(data)
        except NotDnsError:
            continue


@given(st.integers(0, 200), st.binary(min_size=1, max_size=30))
def test_broken_answers_teach_nothing_wrong(at: int, junk: bytes) -> None:
    good = answer("example.org", ["198.51.100.7"], alias="cdn.example.com")
    at %= len(good)
    try:
        parsed = parse_answer(good[:at] + junk + good[at + len(junk) :])
    except NotDnsError:
        return
    assert len(parsed.addresses) <= 2


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_any_frame_is_judged(frames: list[bytes]) -> None:
    rig = Rig(["198.51.100.7"])
    heads = [
        HOST_MAC + GUEST_MAC + head + frame for frame in frames for head in (b"\x08\0", b"\x86\xdd", b"")
    ]
    assert rig.nic.send(heads) == len(heads)
    rig.nic.take()
    rig.comes(*heads)


def test_a_name_that_points_at_itself() -> None:
    loop = struct.pack("!6H", 1, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1"
    with pytest.raises(NotDnsError):
        parse_query(loop)


def test_a_dot_inside_a_label_is_no_dot() -> None:
    odd = struct.pack("!6H", 1, 0, 1, 0, 0, 0) + b"\x0bexample.org\0\0\1\0\1"
    with pytest.raises(NotDnsError):
        parse_query(odd)
