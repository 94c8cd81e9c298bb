"""Headers of frames to send: what the device is asked to finish (virtio 1.4, 5.1.6.2)."""

from __future__ import annotations

from typing import Any

from virtio.drivers.net.receiver import Frame
from virtio.errors import UnsupportedRequestError, UsageError
from virtio.network.packet import tcp_start
from virtio.spec import features as bits
from virtio.spec import net

__all__ = ["RequestChecker"]

GSO_NEEDS = {
    net.HDR_GSO_TCPV4: net.F_HOST_TSO4,
    net.HDR_GSO_TCPV6: net.F_HOST_TSO6,
    net.HDR_GSO_UDP: net.F_HOST_UFO,
    net.HDR_GSO_UDP_L4: net.F_HOST_USO,
}
TCP_CHECKSUM = 16
"""Bytes from the start of a TCP header (RFC 9293, 3.1)."""


class RequestChecker:
    """Makes the header of a frame, and refuses what the device would have to refuse."""

    def __init__(self, features: int, size: int) -> None:
        self._features = features
        self._size = size

    def __call__(self, request: Any, length: int) -> bytes | None:
        """The bytes before a frame of ``length``; None for a header that asks for nothing."""
        header = request.header if isinstance(request, Frame) else request
        if not isinstance(header, net.Hdr):
            raise UsageError(f"a frame's header is a virtio.spec.net.Hdr, not {type(header).__name__}")
        if isinstance(request, Frame):
            header = _forwarded(header, request)
        if header is None:
            return None
        self._check(header, length)
        return header.pack()[: self._size]

    def _check(self, header: net.Hdr, length: int) -> None:
        if header.flags & ~net.HDR_F_NEEDS_CSUM:
            raise UsageError(f"flags {header.flags:#x}: a driver may set NEEDS_CSUM alone")
        if header.flags:
            self._need(net.F_CSUM)
            if header.csum_start + header.csum_offset + 2 > length:
                raise UsageError(
                    f"a checksum at {header.csum_start} + {header.csum_offset} in a frame of {length} bytes"
                )
        if header.gso_type:
            self._check_segments(header)

    def _check_segments(self, header: net.Hdr) -> None:
        kind = header.gso_type & ~net.HDR_GSO_ECN
        if kind not in GSO_NEEDS:
            raise UsageError(f"there is no segmentation of type {header.gso_type:#x}")
        self._need(GSO_NEEDS[kind])
        if header.gso_type & net.HDR_GSO_ECN:
            self._need(net.F_HOST_ECN)
        if not header.gso_size:
            raise UsageError("segments of no bytes (gso_size)")
        if not header.flags & net.HDR_F_NEEDS_CSUM and kind != net.HDR_GSO_UDP:
            raise UsageError("segmentation needs the checksum's place (NEEDS_CSUM)")

    def _need(self, feature: int) -> None:
        if not self._features >> feature & 1:
            raise UnsupportedRequestError(f"the device does not offer {bits.name(net.DEVICE.id, feature)}")


def _forwarded(header: net.Hdr, frame: Frame) -> net.Hdr | None:
    """A received frame's header as one to send: what is still to be done, nothing else."""
    flags = header.flags & net.HDR_F_NEEDS_CSUM
    if not flags and not header.gso_type:
        return None
    start, offset = (header.csum_start, header.csum_offset) if flags else (0, 0)
    if flags and header.flags & net.HDR_F_RSC_INFO:  # the numbers of segments are in the place's place
        found = tcp_start(frame.data)
        if found is None:
            raise UsageError("the frame is said to be joined of TCP segments, but has no TCP header")
        start, offset = found, TCP_CHECKSUM
    return net.Hdr(
        flags=flags,
        gso_type=header.gso_type,
        hdr_len=header.hdr_len,
        gso_size=header.gso_size,
        csum_start=start,
        csum_offset=offset,
    )
