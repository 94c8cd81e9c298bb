"""What travels through a ring: a chain of buffers, and the rules that hold for each."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["DESCRIPTOR", "INDIRECT", "NEXT", "WRITE", "Chain", "Malformed"]

DESCRIPTOR = 16  # bytes of a descriptor, of either ring kind
NEXT = 1  # the chain goes on (VIRTQ_DESC_F_NEXT)
WRITE = 2  # the device writes this buffer, otherwise it reads it (VIRTQ_DESC_F_WRITE)
LONGEST_TABLE = 1024  # descriptors in an indirect table at least, however short the queue: Linux needs it
INDIRECT = 4  # the buffer is itself a table of descriptors (VIRTQ_DESC_F_INDIRECT)


class Malformed(Exception):  # noqa: N818 - an adjective says it best: the ring is malformed
    """The other end broke a rule; ``reason`` names it as the compiled rings do, without their RING_."""

    def __init__(self, reason: str, detail: int = 0) -> None:
        super().__init__(f"{reason}: {detail:#x}")
        self.reason = reason
        self.detail = detail


@dataclass(eq=False)
class Chain:
    """One request: the buffers that the device may read, then those that it may write.

    ``id`` is the head descriptor's index in a split ring and the buffer id in a packed one; ``slots`` is
    how many descriptors of the ring itself the chain occupies. The last two are for an end's bookkeeping.
    """

    id: int = 0
    slots: int = 0
    readable: list[tuple[int, int]] = field(default_factory=list)
    writable: list[tuple[int, int]] = field(default_factory=list)
    token: int = 0
    written: int | None = None

    @property
    def writable_length(self) -> int:
        """Bytes that the device may write."""
        return sum(length for _, length in self.writable)

    def append(self, address: int, length: int, writable: bool) -> None:
        """Add a buffer, in the order of the descriptors.

        Drivers must place writable elements after readable ones (2.7.4.2, 2.8.17) and must not add a chain
        longer than 2**32 bytes in total (2.7.5.2). An element has at least one byte (2.7.13.1).
        """
        if length == 0:
            raise Malformed("LENGTH_ZERO", address)
        if address + length > 1 << 64:
            raise Malformed("ADDRESS_WRAPS", address)
        if self.writable and not writable:
            raise Malformed("ORDER", address)
        (self.writable if writable else self.readable).append((address, length))
        total = sum(length for _, length in self.readable + self.writable)
        if total > 1 << 32:
            raise Malformed("LENGTH_OVERFLOW", total)
