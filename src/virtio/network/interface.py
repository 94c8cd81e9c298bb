"""A network interface of this machine: whether it is up, its MTU, and word when either changes."""

from __future__ import annotations

import fcntl
import os
import selectors
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from virtio.errors import NetworkError, NetworkMissingError, NetworkPermissionError
from virtio.network.namespace import inside

__all__ = ["Interface", "State", "changes"]

SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCGIFMTU, SIOCGIFHWADDR, SIOCGIFINDEX = 0x8913, 0x8914, 0x8921, 0x8927, 0x8933
IFF_UP = 1
IFREQ = struct.Struct("16s24x")

RTMGRP_LINK = 1
RTM_NEWLINK, RTM_DELLINK = 16, 17
IFLA_MTU = 4
NLMSGHDR = struct.Struct("=IHHII")
IFINFOMSG = struct.Struct("=BxHiII")
RTATTR = struct.Struct("=HH")


class State(NamedTuple):
    """How an interface stands: ``number`` is its index, ``mtu`` in bytes, None if that was not said."""

    number: int
    exists: bool
    up: bool
    mtu: int | None


def changes(data: bytes) -> Iterator[State]:
    """What a datagram of the kernel's rtnetlink says of interfaces; all else in it is passed over."""
    at = 0
    while at + NLMSGHDR.size <= len(data):
        length, kind, *_ = NLMSGHDR.unpack_from(data, at)
        if length < NLMSGHDR.size or at + length > len(data):
            return
        body = data[at + NLMSGHDR.size : at + length]
        if kind in (RTM_NEWLINK, RTM_DELLINK) and len(body) >= IFINFOMSG.size:
            _, _, index, flags, _ = IFINFOMSG.unpack_from(body)
            yield State(index, kind == RTM_NEWLINK, bool(flags & IFF_UP), _mtu(body[IFINFOMSG.size :]))
        at += (length + 3) & ~3


def _mtu(attributes: bytes) -> int | None:
    at = 0
    while at + RTATTR.size <= len(attributes):
        length, kind = RTATTR.unpack_from(attributes, at)
        if length < RTATTR.size:
            return None
        if kind == IFLA_MTU and length == RTATTR.size + 4 and at + length <= len(attributes):
            return int(struct.unpack_from("=I", attributes, at + RTATTR.size)[0])
        at += (length + 3) & ~3
    return None


class Interface:
    """An interface in a network namespace (None: this one), by its name.

    Raises NetworkMissingError if it does not exist.
    """

    def __init__(self, name: str, namespace: str | None = None) -> None:
        self.name = name
        self.namespace = namespace
        self._socket, self._news = inside(namespace, _open_sockets)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread: threading.Thread | None = None
        try:
            self.index = struct.unpack_from("=i", self._ioctl(SIOCGIFINDEX), 16)[0]
        except BaseException:
            self.close()
            raise

    def _ioctl(self, request: int, value: bytes = b"") -> bytes:
        data = bytearray(IFREQ.pack(self.name.encode()))
        data[16 : 16 + len(value)] = value
        try:
            fcntl.ioctl(self._socket, request, data)
        except PermissionError as error:
            raise NetworkPermissionError(f"{self.name} cannot be changed: {error.strerror}") from error
        except OSError as error:
            raise NetworkMissingError(f"interface {self.name}: {error.strerror}") from error
        return bytes(data)

    @property
    def up(self) -> bool:
        """Whether it is administratively up. Without that the kernel takes no frames from it."""
        return bool(self._flags() & IFF_UP)

    def _flags(self) -> int:
        return int(struct.unpack_from("=H", self._ioctl(SIOCGIFFLAGS), 16)[0])

    def set_up(self, up: bool = True) -> None:
        """Set it up or down. NetworkPermissionError without CAP_NET_ADMIN."""
        flags = self._flags() | IFF_UP if up else self._flags() & ~IFF_UP
        self._ioctl(SIOCSIFFLAGS, struct.pack("=H", flags))

    @property
    def mtu(self) -> int:
        """Bytes of payload."""
        return int(struct.unpack_from("=i", self._ioctl(SIOCGIFMTU), 16)[0])

    @property
    def mac(self) -> bytes:
        """Its own address, 6 bytes."""
        return self._ioctl(SIOCGIFHWADDR)[18:24]

    def watch(self, tell: Callable[[State], None]) -> None:
        """Have ``tell`` called on a thread with the state, now and whenever it changes."""
        self._thread = threading.Thread(target=self._follow, args=(tell,), name=f"virtio-{self.name}")
        self._thread.daemon = True
        self._thread.start()

    def _follow(self, tell: Callable[[State], None]) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._news, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._wake in ready:
                    return
                for state in self._heard():
                    if state.number == self.index:
                        tell(state)

    def _heard(self) -> list[State]:
        try:
            return list(changes(self._news.recv(1 << 16)))
        except OSError:  # more changed than the kernel kept: ask
            try:
                return [State(self.index, True, self.up, self.mtu)]
            except NetworkError:
                return [State(self.index, False, False, None)]

    def close(self) -> None:
        """Stop to watch. Idempotent."""
        if self._wake < 0:
            return
        os.eventfd_write(self._wake, 1)
        if self._thread is not None:
            self._thread.join()
        self._socket.close()
        self._news.close()
        os.close(self._wake)
        self._wake = -1


def _open_sockets() -> tuple[socket.socket, socket.socket]:
    plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        news.bind((0, RTMGRP_LINK))
    except OSError as error:
        plain.close()
        raise NetworkError(f"the kernel does not tell of interfaces: {error.strerror}") from error
    return plain, news
