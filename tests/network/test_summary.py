"""What is said of frames, and frames that are made from a few words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtio.errors import UsageError
from virtio.network.craft import FORMS, Maker
from virtio.network.packet import checksum, parse_udp
from virtio.network.summary import summarize

MAC, OTHER = bytes.fromhex("525400000001"), bytes.fromhex("525400000002")
HEAD = OTHER + MAC


def maker(**settings: Any) -> Maker:
    return Maker(MAC, OTHER, **settings)


@pytest.mark.parametrize(
    ("words", "source", "type_", "text"),
    [
        ("arp:192.0.2.1", "192.0.2.2", "ARP", "who has 192.0.2.1? tell 192.0.2.2"),
        ("ARP:192.0.2.1", None, "ARP", "who has 192.0.2.1? tell 0.0.0.0"),
        ("ping:192.0.2.1", "192.0.2.2", "IPv4", "192.0.2.2 > 192.0.2.1 ICMP echo request 3, 2 bytes"),
        ("ping:2001:db8::1", "::2", "IPv6", "::2 > 2001:db8::1 ICMPv6 echo request 3, 2 bytes"),
        ("udp:192.0.2.1:53", "192.0.2.2", "IPv4", "192.0.2.2:49152 > 192.0.2.1:53 UDP DNS, 2 bytes"),
        ("udp:[::1]:9", "::2", "IPv6", "[::2]:49152 > [::1]:9 UDP, 2 bytes"),
    ],
)
def test_what_is_made_is_what_is_said(words: str, source: str | None, type_: str, text: str) -> None:
    for vlan in (None, 12):
        frame = maker(source=source, data=b"hi", vlan=vlan).make(words, 3)
        assert len(frame) >= 60
        vlans = () if vlan is None else (vlan,)
        assert summarize(frame) == (MAC.hex(":"), OTHER.hex(":"), vlans, type_, text)


def test_checksums_are_right() -> None:
    v4 = maker(source="192.0.2.2").make("ping:192.0.2.1")
    assert checksum(v4[14:34]) == checksum(v4[34:50]) == 0
    v6 = maker(source="::2").make("ping:::1")
    assert checksum(v6[22:54] + (16).to_bytes(4, "big") + (58).to_bytes(4, "big") + v6[54:70]) == 0
    datagram = parse_udp(maker(source="::2", data=b"data").make("udp:[::1]:9"))
    assert datagram is not None
    assert (datagram.data, datagram.target_port) == (b"data", 9)


def test_bytes_are_sent_as_they_are() -> None:
    assert maker(vlan=3, size=100).make("00:11-22 33") == b"\x00\x11\x22\x33"
    assert len(maker(size=1514).make("arp:192.0.2.1")) == 1514
    with pytest.raises(UsageError, match="describes no frame") as caught:
        maker().make("teapot:1")
    assert all(form in caught.value.fix for form in FORMS)


ETHER = MAC.hex(":")
ANSWER = f"0001 0800 06 04 0002 {MAC.hex()} c0000201 {OTHER.hex()} c0000202"
REVERSE = f"0001 0800 06 04 0003 {MAC.hex()} 00000000 {MAC.hex()} 00000000"
V4, ENDS, WAY = "0800 450000", "0000 c0000201 c0000202", "192.0.2.1{} > 192.0.2.2{}"
TCP = "1f90 0050 00000000 00000000 50 12 0000 0000 0000"
SOLICITATION = f"86dd 60000000 0018 3a ff {'00' * 32} 8700 0000 00000000 20010db8 {'00' * 11} 05"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("0806 0001 0800 06 04 0002 525400000001 c0000201", "ARP cut short or malformed, 18 bytes"),
        (f"0806 {ANSWER}", f"ARP 192.0.2.1 is at {ETHER}"),
        (f"8035 {REVERSE}", f"RARP who is {ETHER}? tell {ETHER}"),
        ("0806 0006 0800 06 04 0001", "ARP for hardware 6 and protocol 0x0800"),
        ("0026 4242 03", "802.3 LLC, 38 bytes"),
        ("88cc 00", "LLDP 1 bytes"),
        ("9999", "0x9999 0 bytes"),
        (f"{V4}28 00000000 4006 {ENDS} {TCP}", f"IPv4 {WAY.format(':8080', ':80')} TCP SYN ACK, 0 bytes"),
        (f"{V4}20 00000005 402f {ENDS}", f"IPv4 {WAY.format('', '')} fragment at 40, 12 bytes"),
        (f"{V4}18 00000000 402f {ENDS} 01020304", f"IPv4 {WAY.format('', '')} GRE, 4 bytes"),
        (f"{V4}15 00000000 40fe {ENDS} 01", f"IPv4 {WAY.format('', '')} protocol 254, 1 bytes"),
        (SOLICITATION, "IPv6 :: > :: ICMPv6 neighbour solicitation 2001:db8::5"),
        ("0800 45", "IPv4 cut short or malformed, 1 bytes"),
    ],
)
def test_what_else_is_said(content: str, said: str) -> None:
    summary = summarize(HEAD + bytes.fromhex(content))
    assert f"{summary.type} {summary.text}" == said


def test_runts() -> None:
    assert summarize(b"")[3:] == ("runt", "0 bytes")
    assert summarize(b"\1\2")[3:] == ("runt", "2 bytes: 01 02")


@given(st.binary(max_size=80), st.sampled_from([b"", b"\x08\x00", b"\x08\x06", b"\x86\xdd", b"\x81\x00"]))
def test_any_bytes_have_a_line(data: bytes, ethertype: bytes) -> None:
    said = summarize(HEAD + ethertype + data)
    assert "\n" not in said.text
    assert said.text
