"""Bytes and descriptors into whole messages: the part that both ends of both channels share."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from virtio.errors import ProtocolError
from virtio.vhost_user.messages import VERSION, VERSION_MASK
from virtio.vhost_user.payloads import Header, Payload

__all__ = ["MAX_FDS", "MAX_PAYLOAD", "Inbox", "Message", "Outgoing", "close_all", "compose"]

MAX_PAYLOAD = 4096
"""Bytes; more than any message of the protocol takes."""
MAX_FDS = 8
"""Descriptors with one message: a full memory table."""


_VFIO_USER_REPLY_SIZE = 16
"""A vfio-user error reply is its header alone; its size, 16, stands where our flags do, and ours are odd."""
_VFIO_USER_VERSION = 1
"""The first command of a vfio-user client; its number stands in the upper half of our request's."""


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors that we own and nobody wants."""
    for fd in fds:
        os.close(fd)


class Outgoing(NamedTuple):
    """A message to send: its bytes, and descriptors to pass with the first of them (still the caller's)."""

    data: bytes
    fds: tuple[int, ...] = ()


def compose(request: int, flags: int, payload: Payload | None, fds: tuple[int, ...] = ()) -> Outgoing:
    """Put a header before a payload."""
    body = payload.pack() if payload is not None else b""
    return Outgoing(Header(request, VERSION | flags, len(body)).pack() + body, fds)


class Message:
    """One message as it came, with the descriptors that came along; it owns them until they are taken."""

    __slots__ = ("fds", "flags", "number", "payload")

    def __init__(self, number: int, flags: int, payload: bytes, fds: list[int]) -> None:
        self.number = number
        self.flags = flags
        self.payload = payload
        self.fds = fds


class Inbox:
    """Collects one message after another from a stream.

    Read no more than `wanted` bytes at a time: then a read never spans two messages, and the descriptors it
    brings belong to the message it is part of.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._fds: list[int] = []
        self._header: Header | None = None

    @property
    def wanted(self) -> int:
        """How many bytes complete the current header, or else the current message."""
        if self._header is None:
            return Header.size - len(self._data)
        return Header.size + self._header.length - len(self._data)

    @property
    def partial(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._data or self._fds)

    def add(self, data: bytes, fds: Iterable[int] = ()) -> Message | None:
        """Take in bytes and descriptors; return the message they complete.

        ProtocolError, the other side's fault, for a header that cannot be; ValueError, the caller's, for more
        bytes than were wanted. The descriptors are ours from here on and are closed on either.
        """
        self._fds.extend(fds)
        if len(data) > self.wanted:
            self.close()
            raise ValueError(f"{len(data)} bytes were read where {self.wanted} were wanted")
        self._data += data
        try:
            if len(self._fds) > MAX_FDS:
                raise ProtocolError(
                    f"{len(self._fds)} descriptors came with one message; at most {MAX_FDS} may"
                )
            if self._header is None and len(self._data) == Header.size:
                self._header = _checked(Header.unpack(bytes(self._data)))
        except ProtocolError:
            self.close()
            raise
        return self._complete() if self._header is not None and not self.wanted else None

    def _complete(self) -> Message:
        header = self._header
        assert header is not None
        message = Message(header.request, header.flags, bytes(self._data[Header.size :]), self._fds)
        self._data, self._fds, self._header = bytearray(), [], None
        return message

    def close(self) -> None:
        """Forget what is incomplete and close its descriptors."""
        fds, self._fds = self._fds, []
        self._data, self._header = bytearray(), None
        close_all(fds)


def _checked(header: Header) -> Header:
    version = header.flags & VERSION_MASK
    if header.flags == _VFIO_USER_REPLY_SIZE or header.request >> 16 == _VFIO_USER_VERSION:
        raise ProtocolError(
            "the other side speaks vfio-user, not vhost-user",
            fix="use the socket as a vfio-user one, or start the other program in its vhost-user mode",
        )
    if version != VERSION:
        raise ProtocolError(
            f"a message of vhost-user version {version} arrived; only version {VERSION} exists",
            fix="check that the program at the other end speaks vhost-user",
        )
    if header.length > MAX_PAYLOAD:
        raise ProtocolError(
            f"request {header.request} announces {header.length} bytes; at most {MAX_PAYLOAD} make sense"
        )
    return header
