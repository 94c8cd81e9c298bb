"""``allow=``: a guest reaches what is on a list, and nothing else.

What passes outwards: ARP, neighbour discovery, DHCP to everybody, names that are allowed asked of resolvers
that are known; what goes to allowed addresses, to addresses that allowed names turned out to have, and to
whoever began a conversation with the guest. All else is dropped: other protocols, tagged frames, DNS over TCP
to resolvers that are not themselves allowed. A query for another name is answered REFUSED.
"""

from __future__ import annotations

import ipaddress

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.libc.stdint import int64_t, uint8_t, uint16_t, uint32_t
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.libc.string import memcmp, memcpy, memset
from cython.cimports.posix.time import CLOCK_MONOTONIC
from cython.cimports.posix.uio import iovec
from cython.cimports.virtio.memory import atomic
from cython.cimports.virtio.memory.clock import SECOND, read_clock
from cython.cimports.virtio.network.filter import FilterLink
from cython.cimports.virtio.network.frame import Frame
from cython.cimports.virtio.network.link import Link, Sink

from virtio.network import packet
from virtio.network.policy import Policy

__all__ = ["AllowLink"]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def word(at: cython.pointer[cython.const[uint8_t]]) -> uint16_t:
    return (at[0] << 8) | at[1]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def seconds() -> int64_t:
    return read_clock(CLOCK_MONOTONIC) // SECOND


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def copy_head(
    frame: cython.pointer[cython.const[Frame]], into: cython.pointer[uint8_t], most: uint32_t
) -> uint32_t:
    """Copy the beginning of a frame; the number of bytes."""
    i: cython.int
    piece: cython.size_t
    done: uint32_t = 0
    for i in range(frame.count):
        piece = frame.segments[i].iov_len
        if piece > most - done:
            piece = most - done
        memcpy(into + done, frame.segments[i].iov_base, piece)
        done += piece
        if done == most:
            break
    return done


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def take_ports(look: cython.pointer[Look], at: uint32_t, outward: cython.bint) -> cython.void:
    """Read the ports of UDP and TCP, and whether TCP opens a conversation."""
    if (look.protocol != 6 and look.protocol != 17) or look.size < at + 8:
        return
    source: uint16_t = word(look.head + at)
    target: uint16_t = word(look.head + at + 2)
    look.local_port = source if outward else target
    look.remote_port = target if outward else source
    look.ports = True
    if look.protocol == 6 and look.size >= at + 14:
        look.opens = (look.head[at + 13] & 0x12) == 0x02


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def examine(look: cython.pointer[Look], outward: cython.bint) -> cython.bint:
    """Find out who talks to whom; false for what is not IP."""
    at: uint32_t
    kind: uint16_t = word(look.head + 12)
    if kind == 0x0800 and look.size >= 34 and look.head[14] >> 4 == 4:
        at = 14 + (look.head[14] & 15) * 4
        if at < 34:
            return False
        look.protocol = look.head[23]
        look.remote[10] = look.remote[11] = 0xFF
        memcpy(look.remote + 12, look.head + (30 if outward else 26), 4)
        if word(look.head + 20) & 0x3FFF == 0:  # whole: a fragment is judged by its address
            take_ports(look, at, outward)
        return True
    if kind == 0x86DD and look.size >= 54 and look.head[14] >> 4 == 6:
        look.ipv6 = True
        look.protocol = look.head[20]
        memcpy(look.remote, look.head + (38 if outward else 22), 16)
        take_ports(look, 54, outward)
        return True
    return False


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def is_housekeeping(look: cython.pointer[Look]) -> cython.bint:
    """Whether it is what a network needs to come up, and goes no further than the link."""
    if look.ports and look.protocol == 17 and look.remote_port == 67 and not look.ipv6:
        return word(look.remote + 12) == 0xFFFF and word(look.remote + 14) == 0xFFFF
    if not look.ipv6:
        return False
    near: cython.bint = look.remote[0] == 0xFF and look.remote[1] == 0x02
    if look.ports and look.protocol == 17 and look.remote_port == 547:
        return near
    if look.protocol == 58 and look.size >= 55 and 133 <= look.head[54] <= 136:
        return look.head[21] == 255  # the hop limit: no router passes it on (RFC 4861)
    # Multicast listener reports, behind a hop-by-hop header.
    return near and look.protocol == 0 and look.head[21] == 1 and look.head[54] == 58


class AllowLink:
    """A link around ``inner`` that lets a guest reach what ``policy`` allows."""

    def __cinit__(self) -> None:
        pthread_mutex_init(cython.address(self.lock), cython.NULL)

    def __init__(self, inner: Link, policy: Policy) -> None:
        FilterLink.__init__(self, inner)
        self.policy = policy
        self.flows = cython.cast(cython.pointer[Flow], calloc(SETS * WAYS, cython.sizeof(Flow)))
        if self.flows is cython.NULL:
            raise MemoryError

    def __dealloc__(self) -> None:
        free(self.flows)
        pthread_mutex_destroy(cython.address(self.lock))

    def stats(self) -> dict[str, int]:
        """Those of the link inside, the frames that were ``denied``, and ``refused_queries`` for names."""
        return {**self.inner.stats(), "denied": self.denied, "refused_queries": self.refused}

    # Outwards

    def put(self, queue, frames, count):
        i: cython.int
        start: cython.int = 0
        taken: cython.int
        look = cython.declare(Look)
        verdict = cython.declare(Verdict)
        for i in range(count):
            verdict = self.judge(cython.address(frames[i]), cython.address(look))
            if verdict == PASS:
                continue
            # What is before it goes first: it may find no room, and then this one is asked about again.
            taken = self.inner.put(queue, cython.address(frames[start]), i - start) if i > start else 0
            start += taken
            if start < i:
                return start
            if verdict == QUERY and self.admit(queue, cython.address(frames[i])):
                continue
            if verdict == DROP:
                atomic.add_u64(cython.address(self.denied), 1, atomic.RELAXED)
            start = i + 1
        if start < count:
            start += self.inner.put(queue, cython.address(frames[start]), count - start)
        return start

    def judge(self, frame, look):
        now: int64_t
        memset(look, 0, cython.sizeof(Look))
        look.size = copy_head(frame, look.head, PEEK)
        if look.size < 14:
            return DROP
        if word(look.head + 12) == 0x0806:
            return PASS
        if not examine(look, True):
            return DROP
        if is_housekeeping(look):
            return PASS
        if look.ports and look.protocol == 17 and look.remote_port == 53:
            return QUERY
        now = seconds()
        if look.ports and self.known(look, now):
            return PASS
        with cython.gil:
            if not self.reachable(look):
                return DROP
        if look.ports:
            self.remember(look, now)
        return PASS

    def reachable(self, look):
        """Whether the policy allows the address."""
        address = PyBytes_FromStringAndSize(cython.cast(cython.p_char, look.remote), 16)
        if not look.ipv6:
            return self.policy.until(ipaddress.IPv4Address(address[12:])) != 0.0
        return self.policy.until(ipaddress.IPv6Address(address)) != 0.0

    def admit(self, queue, frame):
        """Ask about a query, and answer it if it is not to pass."""
        with cython.gil:
            return self.ask(queue, frame)

    def ask(self, queue, frame):
        datagram = packet.parse_udp(whole(frame))
        reply = b"" if datagram is None else self.policy.ask(datagram)
        if reply is None:
            return True
        atomic.add_u64(cython.address(self.refused), 1, atomic.RELAXED)
        if reply:
            self.answer(queue, packet.udp_frame(datagram.reply(reply)))
        return False

    def answer(self, queue, data):
        """Send the guest a frame of our own."""
        frame = cython.declare(Frame)
        segment = cython.declare(iovec)
        memset(cython.address(frame), 0, cython.sizeof(Frame))
        segment.iov_base = PyBytes_AS_STRING(data)
        segment.iov_len = len(data)
        frame.segments = cython.address(segment)
        frame.count = 1
        frame.length = len(data)
        guest = cython.declare(Sink, self.guest)
        if guest is not None:
            with cython.nogil:
                guest.put(queue, cython.address(frame), 1)

    # Inwards

    def deliver(self, queue, frames, count):
        """What comes from the world is watched, never stopped."""
        i: cython.int
        for i in range(count):
            self.notice(cython.address(frames[i]))
        return FilterLink.deliver(self, queue, frames, count)

    def notice(self, frame):
        """Note who begins a conversation, and learn from resolvers and whoever announces them."""
        look = cython.declare(Look)
        memset(cython.address(look), 0, cython.sizeof(Look))
        look.size = copy_head(frame, look.head, PEEK)
        if look.size < 14 or not examine(cython.address(look), False):
            return
        udp: cython.bint = look.ports and look.protocol == 17
        advertisement: cython.bint = (
            look.ipv6 and look.protocol == 58 and look.head[54] == 134 and look.head[21] == 255
        )
        if advertisement or (udp and (look.remote_port == 53 or look.remote_port == 67)):
            with cython.gil:
                self.learn(frame)
        elif udp or look.opens:
            self.remember(cython.address(look), seconds())

    def learn(self, frame):
        data = whole(frame)
        datagram = packet.parse_udp(data)
        if datagram is None:
            self.policy.learn_advertisement(data[70:])  # Ethernet, IPv6, and 16 bytes of the message
        elif datagram.source_port == 53:
            self.policy.learn(datagram)
        elif datagram.target_port == 68:
            self.policy.learn_dhcp(datagram)

    # Conversations

    def known(self, look, now):
        i: cython.int
        found: cython.bint = False
        flow: cython.pointer[Flow] = self.flows + WAYS * slot(look)
        pthread_mutex_lock(cython.address(self.lock))
        for i in range(WAYS):
            if flow[i].until >= now and matches(cython.address(flow[i]), look):
                flow[i].until = now + (TCP_SECONDS if look.protocol == 6 else UDP_SECONDS)
                found = True
                break
        pthread_mutex_unlock(cython.address(self.lock))
        return found

    def remember(self, look, now):
        """Note a conversation, in place of the one that would end first if there is no room."""
        i: cython.int
        best: cython.int = 0
        flow: cython.pointer[Flow] = self.flows + WAYS * slot(look)
        pthread_mutex_lock(cython.address(self.lock))
        for i in range(WAYS):
            if matches(cython.address(flow[i]), look):
                best = i
                break
            if flow[i].until < flow[best].until:
                best = i
        memcpy(flow[best].remote, look.remote, 16)
        flow[best].remote_port, flow[best].local_port = look.remote_port, look.local_port
        flow[best].protocol = look.protocol
        flow[best].until = now + (TCP_SECONDS if look.protocol == 6 else UDP_SECONDS)
        pthread_mutex_unlock(cython.address(self.lock))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def slot(look: cython.pointer[cython.const[Look]]) -> uint32_t:
    i: cython.int
    mixed: uint32_t = (cython.cast(uint32_t, look.remote_port) << 16 | look.local_port) ^ look.protocol
    for i in range(16):
        mixed = (mixed ^ look.remote[i]) * 16777619
    return (mixed ^ mixed >> 16) % SETS


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def matches(
    flow: cython.pointer[cython.const[Flow]], look: cython.pointer[cython.const[Look]]
) -> cython.bint:
    return (
        flow.remote_port == look.remote_port
        and flow.local_port == look.local_port
        and flow.protocol == look.protocol
        and memcmp(flow.remote, look.remote, 16) == 0
    )


@cython.cfunc
def whole(frame: cython.pointer[cython.const[Frame]]) -> bytes:
    """All bytes of a frame."""
    data: bytes = PyBytes_FromStringAndSize(cython.NULL, frame.length)
    copy_head(frame, cython.cast(cython.pointer[uint8_t], PyBytes_AS_STRING(data)), frame.length)
    return data
