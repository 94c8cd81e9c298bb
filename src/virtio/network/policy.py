"""What a guest may reach: the allow-list itself, without frames."""

from __future__ import annotations

import ipaddress
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from virtio.errors import NetworkUrlError
from virtio.network.dns import NotDnsError, parse_answer, parse_query, refusal
from virtio.network.packet import Datagram

__all__ = ["Policy"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

FOREVER = float("inf")
LEAST_SECONDS, MOST_SECONDS = 5, 86400
QUERY_SECONDS = 10.0
MOST_QUERIES = 1024
MOST_ADDRESSES = 16384
MOST_RESOLVERS = 16
DHCP_COOKIE = b"\x63\x82\x53\x63"
DHCP_RESOLVERS = 6
RA_RESOLVERS = 25


class Policy:
    """Addresses, networks and names that are allowed, and the addresses that the names turned out to have.

    ``allowed`` are words such as ``192.0.2.1``, ``2001:db8::/32``, ``example.org`` and ``*.example.org``
    (everything below it). Names are asked for at ``resolvers``, or at those that the network announces.
    Thread safe.
    """

    def __init__(
        self,
        allowed: Iterable[str],
        resolvers: Iterable[str] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._networks: list[Network] = []
        self._names: set[str] = set()
        self._suffixes: list[str] = []
        for word in allowed:
            self._add(word)
        self._resolvers = {_address(word) for word in resolvers}
        self._fixed = bool(self._resolvers)
        self._known: OrderedDict[Address, float] = OrderedDict()
        self._queries: OrderedDict[tuple[Address, int, int], tuple[str, float]] = OrderedDict()
        self._clock = clock
        self._lock = threading.Lock()

    def _add(self, word: str) -> None:
        try:
            self._networks.append(ipaddress.ip_network(word, strict=False))
        except ValueError:
            name = word.lower().rstrip(".")
            plain = name.removeprefix("*.")
            labels = plain.split(".")
            if not all(label.replace("-", "a").replace("_", "a").isalnum() for label in labels):
                raise NetworkUrlError(
                    f"allow={word}: neither an address nor a name",
                    fix="write ADDRESS, NETWORK/LENGTH or NAME",
                ) from None
            if name == plain:
                self._names.add(name)
            else:
                self._suffixes.append("." + plain)

    @property
    def resolvers(self) -> frozenset[Address]:
        """Where names may be asked for."""
        return frozenset(self._resolvers)

    def allows_name(self, name: str) -> bool:
        """Whether a name may be asked for."""
        return name in self._names or any(name.endswith(suffix) for suffix in self._suffixes)

    def until(self, address: Address) -> float:
        """Until when an address may be reached, on the clock; 0.0: not at all."""
        if any(address in network for network in self._networks if network.version == address.version):
            return FOREVER
        with self._lock:
            end = self._known.get(address, 0.0)
        return end if end > self._clock() else 0.0

    def ask(self, datagram: Datagram) -> bytes | None:
        """Judge a query: None lets it pass, else what to answer in its place (nothing: empty)."""
        try:
            query = parse_query(datagram.data)
        except NotDnsError:
            return b""
        if datagram.target not in self._resolvers:
            return refusal(datagram.data, query)
        if not self.allows_name(query.name):
            return refusal(datagram.data, query)
        with self._lock:
            key = datagram.target, datagram.source_port, query.number
            self._queries[key] = query.name, self._clock() + QUERY_SECONDS
            while len(self._queries) > MOST_QUERIES:
                self._queries.popitem(last=False)
        return None

    def learn(self, datagram: Datagram) -> list[Address]:
        """Take in the answer to a query that passed; the addresses that may be reached from now on."""
        try:
            answer = parse_answer(datagram.data)
        except NotDnsError:
            return []
        now = self._clock()
        with self._lock:
            key = datagram.source, datagram.target_port, answer.number
            name, end = self._queries.get(key, ("", 0.0))
            if name != answer.name or end < now:
                return []
            del self._queries[key]
            for address, seconds in answer.addresses:
                until = now + min(max(seconds, LEAST_SECONDS), MOST_SECONDS)
                self._known[address] = max(until, self._known.get(address, 0.0))
                self._known.move_to_end(address)
            while len(self._known) > MOST_ADDRESSES:
                self._known.popitem(last=False)
        return [address for address, _ in answer.addresses]

    def announce(self, found: Iterable[Address]) -> None:
        """The network announced resolvers; with resolvers of our own that means nothing."""
        for address in found:
            if not self._fixed and len(self._resolvers) < MOST_RESOLVERS:
                self._resolvers.add(address)

    def learn_dhcp(self, datagram: Datagram) -> None:
        """Take in a DHCP server's message (RFC 2131): its option 6."""
        options = datagram.data[240:]
        if datagram.data[236:240] != DHCP_COOKIE:
            return
        at = 0
        while at + 1 < len(options) and options[at] != 255:
            kind = options[at]
            if kind == 0:
                at += 1
                continue
            value = options[at + 2 : at + 2 + options[at + 1]]
            if kind == DHCP_RESOLVERS:
                self.announce(ipaddress.IPv4Address(value[i : i + 4]) for i in range(0, len(value) - 3, 4))
            at += 2 + options[at + 1]

    def learn_advertisement(self, options: bytes) -> None:
        """Take in the options of an IPv6 router's advertisement (RFC 8106): its resolvers."""
        at = 0
        while at + 8 <= len(options) and options[at + 1]:
            kind, length = options[at], options[at + 1] * 8
            if kind == RA_RESOLVERS and at + length <= len(options):
                lifetime = struct.unpack_from("!I", options, at + 4)[0]
                value = options[at + 8 : at + length] if lifetime else b""
                self.announce(ipaddress.IPv6Address(value[i : i + 16]) for i in range(0, len(value) - 15, 16))
            at += length


def _address(word: str) -> Address:
    try:
        return ipaddress.ip_address(word)
    except ValueError as error:
        raise NetworkUrlError(f"resolver={word}: {error}") from error
