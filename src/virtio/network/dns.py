"""The part of DNS that an allow-list needs (RFC 1035): what is asked, and which addresses are the answer."""

from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

__all__ = ["Answer", "NotDnsError", "Query", "parse_answer", "parse_query", "refusal"]

HEADER = struct.Struct("!6H")
RESPONSE, OPCODE, TRUNCATED, REFUSED = 0x8000, 0x7800, 0x0200, 5
TYPE_A, TYPE_CNAME, TYPE_AAAA, CLASS_IN = 1, 5, 28, 1
MOST_RECORDS = 200
MOST_POINTERS = 20

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class NotDnsError(ValueError):
    """The bytes are no message of the kind that was expected."""


class Query(NamedTuple):
    """A question; ``end`` is the offset behind it. Names are in lower case, without a dot at the end."""

    number: int
    name: str
    kind: int
    end: int


class Answer(NamedTuple):
    """The addresses that a question has, each with the seconds that it may be used."""

    number: int
    name: str
    addresses: tuple[tuple[Address, int], ...]


def _name(data: bytes, at: int) -> tuple[str, int]:
    """The name at an offset, and the offset behind it."""
    labels: list[str] = []
    end = -1
    size = pointers = 0
    while True:
        if at >= len(data):
            raise NotDnsError("a name passes the end")
        length = data[at]
        if length >= 0xC0:
            if at + 1 >= len(data) or pointers == MOST_POINTERS:
                raise NotDnsError("a name points nowhere")
            end = at + 2 if end < 0 else end
            at = (length & 0x3F) << 8 | data[at + 1]
            pointers += 1
            continue
        if length >= 0x40 or at + 1 + length > len(data) or (size := size + length + 1) > 255:
            raise NotDnsError("a label that is none")
        at += 1 + length
        if length == 0:
            return ".".join(labels), at if end < 0 else end
        label = data[at - length : at]
        # A dot inside a label would make one name look like another.
        if b"." in label or not label.isascii():
            raise NotDnsError("a label of odd bytes")
        labels.append(label.decode().lower())


def _question(data: bytes, response: bool) -> tuple[Query, int]:
    if len(data) < HEADER.size:
        raise NotDnsError("too short")
    number, flags, questions, answers, _, _ = HEADER.unpack_from(data)
    if bool(flags & RESPONSE) != response or flags & OPCODE or questions != 1:
        raise NotDnsError("no plain query or answer")
    name, at = _name(data, HEADER.size)
    if at + 4 > len(data):
        raise NotDnsError("a question without its end")
    kind, group = struct.unpack_from("!HH", data, at)
    if group != CLASS_IN:
        raise NotDnsError("another class than IN")
    return Query(number, name, kind, at + 4), answers


def parse_query(data: bytes) -> Query:
    """What a client asks. Raises NotDnsError for all that is no single plain question."""
    query, answers = _question(data, False)
    if answers:
        raise NotDnsError("a question with answers")
    return query


def parse_answer(data: bytes) -> Answer:
    """The addresses of the name that was asked, through its aliases. Raises NotDnsError."""
    query, count = _question(data, True)
    names = {query.name}
    found: list[tuple[Address, int]] = []
    at = query.end
    for _ in range(min(count, MOST_RECORDS)):
        owner, at = _name(data, at)
        if at + 10 > len(data):
            raise NotDnsError("a record passes the end")
        kind, group, seconds, length = struct.unpack_from("!HHIH", data, at)
        at += 10
        if at + length > len(data):
            raise NotDnsError("a record passes the end")
        if owner in names and group == CLASS_IN:
            if kind == TYPE_CNAME:
                names.add(_name(data, at)[0])
            elif (kind, length) in ((TYPE_A, 4), (TYPE_AAAA, 16)):
                found.append((ipaddress.ip_address(data[at : at + length]), seconds))
        at += length
    return Answer(query.number, query.name, tuple(found))


def refusal(data: bytes, query: Query) -> bytes:
    """The answer REFUSED to a query."""
    flags = struct.unpack_from("!H", data, 2)[0] & 0x0100 | RESPONSE | REFUSED
    return HEADER.pack(query.number, flags, 1, 0, 0, 0) + data[HEADER.size : query.end]
