"""Networks that cannot be used."""

from __future__ import annotations

from virtio.errors.base import DeviceError, HostError, UsageError

__all__ = ["FrameBuffersError", "FrameHeaderError", "NetworkError", "NetworkUrlError"]


class NetworkError(HostError):
    """A NIC's link cannot be opened or used: an interface that is missing, not permitted or in use."""

    code = "E-NET"


class NetworkUrlError(UsageError):
    """A link's URL names an unknown scheme, an unknown option or a value that is none.

    ``virtio net --help`` lists the schemes and the filters that can be among their options.
    """

    code = "E-NET-URL"
    fix = "write a link such as user:, tap:NAME, switch:NAME or null:"


class FrameHeaderError(DeviceError):
    """The device used a receive buffer for fewer bytes than the header before every frame has.

    Virtio 1.4, Network Device, Device Operation: struct virtio_net_hdr, 10, 12 or 20 bytes as negotiated.
    """

    code = "E-FRAME-HEADER"


class FrameBuffersError(DeviceError):
    """The device says that a received frame spans no buffer, or more than the queue has.

    Virtio 1.4, Network Device, Processing of Incoming Packets: num_buffers counts the buffers that a frame
    takes, with MRG_RXBUF.
    """

    code = "E-FRAME-BUFFERS"
