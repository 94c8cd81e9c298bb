"""A vhost-user front-end that sends anything: messages, descriptors, nonsense between and within them.

The other end is a real session with a real disk and real rings, on this thread. Whatever comes, the session
either goes on or ends with a named error; it never leaks a descriptor, and never fails by a bug of its own.
"""

from __future__ import annotations

from reading import Reader, fuzz, instrumented

with instrumented("virtio.vhost_user", "virtio.device"):
    from virtio.device import Attachment
    from virtio.vhost_user.backend import BackendSession
    from virtio.vhost_user.control import OFFERED
    from virtio.vhost_user.loop import ControlLoop
    from virtio.vhost_user.messages import (
        FRONTEND_REQUESTS,
        NEED_REPLY,
        VERSION,
        FrontendRequest,
        ProtocolFeature,
    )
    from virtio.vhost_user.payloads import Header

import array
import os
import socket
import struct
from contextlib import suppress

from virtio.devices.blk import Blk
from virtio.errors import VirtioError
from virtio.storage import MemoryStorage

SIZE = 64 << 10  # bytes of the memory to share
GUEST, USER = 0x10000, 0x7F0000000000
BASES = (0, GUEST, USER, 1 << 32, 2**64 - 0x10000)  # what numbers are added to
STEPS = 64
MOST_FDS = 10
F = FrontendRequest
IN_BAND = ProtocolFeature.INBAND_NOTIFICATIONS.mask


class Session:
    """One connection, from the front-end's side."""

    def __init__(self, device: Blk) -> None:
        self.loop = ControlLoop()
        self.reports: list[str] = []
        self.ended = False
        self.memory = os.memfd_create("fuzz")
        os.ftruncate(self.memory, SIZE)
        self.kick = os.eventfd(0, os.EFD_NONBLOCK)
        self.socket, theirs = socket.socketpair()
        self.socket.setblocking(False)
        self.session = BackendSession(
            self.loop,
            theirs,
            lambda changed, fault: Attachment(device, on_config_change=changed, on_fault=fault, poll_us=0),
            on_report=self.report,
            on_end=self.end,
        )

    def report(self, error: VirtioError) -> None:
        """Keep its text alone: the error's traceback would keep alive what it came by."""
        self.reports.append(str(error))

    def end(self) -> None:
        self.ended = True

    def step(self, source: Reader) -> None:
        """Send a message, well-formed or not, or be the guest for a moment."""
        what = source.number(1)
        if what == 0xFF:
            self.send(source.take(source.number(1)), [])
        elif what == 0xFE:
            os.pwrite(self.memory, source.take(source.number(1)), source.number(2) % SIZE)
        elif what == 0xFD:
            os.eventfd_write(self.kick, 1)
        elif what == 0xFC:
            self.kick_and_wait()
        else:
            self.send_message(what % 48, source)
        self.serve()

    def kick_and_wait(self) -> None:
        """Let the worker find what is in the ring."""
        os.eventfd_write(self.kick, 1)
        self.loop.run_once(0.0005)

    def send_message(self, number: int, source: Reader) -> None:
        """A request with its payload's fields; a byte says how it deviates."""
        options = source.number(1)
        flags = VERSION | (NEED_REPLY if options & 1 else 0)
        kind = FRONTEND_REQUESTS.get(number)
        if options & 0x80 or kind is None:
            payload = source.take(source.number(1))
        elif number == F.SET_MEM_TABLE:
            payload = read_table(source)
        elif kind.payload is None:
            payload = b""
        else:
            payload = read_payload(kind.payload, source)
        fds = [self.descriptor(source) for _ in range(options >> 1 & 3)]
        if options & 0x40:
            fds += [self.descriptor(source) for _ in range(source.number(1) % MOST_FDS)]
        length = source.number(2) if options & 0x20 else len(payload)
        try:
            self.send(Header(number, flags | (options & 0x18) << 1, length).pack() + payload, fds)
        finally:
            for fd in fds:
                os.close(fd)

    def descriptor(self, source: Reader) -> int:
        """A new descriptor of some kind: what belongs there, or not."""
        match source.number(1) % 8:
            case 0 | 1 | 2:
                return os.dup(self.memory)
            case 3 | 4:
                return os.dup(self.kick)
            case 5:
                return os.dup(self.socket.fileno())
            case 6:
                reading, writing = os.pipe()
                os.close(writing)
                return reading
        return os.open("/dev/null", os.O_RDWR)

    def send(self, data: bytes, fds: list[int]) -> None:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        with suppress(OSError):  # it may have closed, or not read yet
            self.socket.sendmsg([data], ancillary)

    def serve(self) -> None:
        """Let the session work, and take what it answers."""
        self.loop.run_once(0)
        with suppress(OSError):
            _, fds, _, _ = socket.recv_fds(self.socket, 65536, 16)
            for fd in fds:
                os.close(fd)

    def close(self) -> None:
        """Leave, and see that the session ends."""
        self.socket.close()
        for _ in range(3):
            self.loop.run_once(0)
        self.session.close()
        self.loop.close()
        os.close(self.memory)
        os.close(self.kick)
        assert self.ended
        for text in self.reports:
            assert not text.startswith("the session failed"), text


def read_number(source: Reader) -> int:
    """Eight bytes' worth, in three or nine: numbers near something that matters, or any."""
    choice = source.number(1)
    if choice < len(BASES):
        return (BASES[choice] + source.number(2)) % 2**64
    if choice < 0x80:
        return 1 << choice % 64
    return source.number(8)


def read_payload(payload: type, source: Reader) -> bytes:
    """A payload of declared fields, or, where its length is its own, any bytes."""
    size = getattr(payload, "size", None)
    if size is None:
        return struct.pack("<III", source.number(1), source.number(1), source.number(1)) + source.take(
            source.number(1)
        )
    if size <= 8:
        return (
            read_number(source) if source.number(1) & 1 else source.number(2) << 32 | source.number(1)
        ).to_bytes(12, "little")[:size]
    values = [read_number(source).to_bytes(8, "little") for _ in range(-(-size // 8))]
    if payload.__name__ == "VringAddress":  # two 32-bit numbers, then addresses
        values[0] = struct.pack("<II", source.number(1), source.number(1))
    return b"".join(values)[:size]


def read_table(source: Reader) -> bytes:
    """A table of memory regions; its count may lie."""
    count, told = source.number(1) % 10, source.number(1)
    regions = b"".join(read_number(source).to_bytes(8, "little") for _ in range(4 * count))
    return struct.pack("<II", told if told < 16 else count, 0) + regions


def target(source: Reader, device: Blk) -> None:
    before = len(os.listdir("/proc/self/fd"))
    session = Session(device)
    try:
        for _ in range(STEPS):
            if source.empty or session.ended:
                break
            session.step(source)
    finally:
        session.close()
    after = len(os.listdir("/proc/self/fd"))
    assert after == before, f"{after - before} descriptors leaked"


def number(base: int, offset: int) -> bytes:
    """What `read_number` reads as BASES[base] + offset."""
    return bytes([base]) + struct.pack("<H", offset)


def seeds() -> list[bytes]:
    """A front-end as it should be, setting up a ring with a request in it; with and without its parts."""
    features = bytes([F.SET_FEATURES, 1, 1, 0xFF]) + struct.pack("<Q", 1 << 32 | 1 << 30)
    protocol = bytes([F.SET_PROTOCOL_FEATURES, 1, 1, 0xFF]) + struct.pack("<Q", OFFERED & ~IN_BAND)
    hello = bytes([F.GET_FEATURES, 0, F.GET_PROTOCOL_FEATURES, 0]) + protocol
    hello += bytes([F.SET_OWNER, 1, F.GET_QUEUE_NUM, 0, F.GET_MAX_MEM_SLOTS, 0]) + features
    region = number(1, 0) + number(0, 0xF000) + number(2, 0) + number(0, 0)
    table = bytes([F.SET_MEM_TABLE, 3, 1, 16]) + region + b"\0"
    slot = bytes([F.ADD_MEM_REG, 3]) + number(0, 0) + region + b"\0"
    size = bytes([F.SET_VRING_NUM, 1, 0]) + struct.pack("<H", 8) + b"\0"
    base = bytes([F.SET_VRING_BASE, 1, 0, 0, 0, 0])
    where = bytes([F.SET_VRING_ADDR, 1]) + number(0, 0) + number(2, 0) + number(2, 0x2000) + number(2, 0x1000)
    where += number(0, 0) + b"\0\0"
    kick = bytes([F.SET_VRING_KICK, 3, 0, 0, 0, 0, 3])
    call = bytes([F.SET_VRING_CALL, 3, 0, 0, 0, 0, 3])
    enable = bytes([F.SET_VRING_ENABLE, 1, 0]) + struct.pack("<H", 1) + b"\0"
    ring = struct.pack("<QIHH", GUEST + 0x3000, 16, 1, 1) + struct.pack("<QIHH", GUEST + 0x4000, 513, 2, 0)
    guest = (
        bytes([0xFE, len(ring)])
        + ring
        + b"\0\0"
        + bytes([0xFE, 6, 0, 0, 1, 0, 0, 0])
        + struct.pack("<H", 0x1000)
    )
    stop = bytes([F.GET_VRING_BASE, 0, 0, 0, 0, 0])
    config = bytes([F.GET_CONFIG, 0, 0, 60, 0, 60]) + bytes(60)
    status = bytes([F.SET_STATUS, 1, 1, 0, 15, 0, F.GET_STATUS, 0])
    start = size + base + where + kick + call + enable
    run = guest + bytes([0xFD, 0xFC])
    return [
        hello + table + start + run + stop,
        hello + slot + start + run + bytes([F.RESET_DEVICE, 1]) + slot + start + run,
        hello + config + status + table + start + run + table + stop + start,
        hello,
        hello.replace(struct.pack("<Q", OFFERED & ~IN_BAND), struct.pack("<Q", OFFERED))
        + table
        + start
        + run,
    ]


if __name__ == "__main__":
    DISK = Blk(MemoryStorage(SIZE))
    fuzz(lambda source: target(source, DISK), seeds())
