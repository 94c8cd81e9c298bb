"""Networks that cannot be used."""

from __future__ import annotations

from virtio.errors.base import DeviceError, HostError, PeerError, UsageError

__all__ = [
    "CaptureFileError",
    "FrameBuffersError",
    "FrameHeaderError",
    "NetworkBusyError",
    "NetworkDownError",
    "NetworkError",
    "NetworkExtraError",
    "NetworkFramingError",
    "NetworkKindError",
    "NetworkMissingError",
    "NetworkPermissionError",
    "NetworkUrlError",
]


class NetworkError(HostError):
    """A NIC's link cannot be opened or used: an interface that is missing, not permitted or in use."""

    code = "E-NET"


class NetworkMissingError(NetworkError):
    """The interface, namespace, bridge, socket or device file that a link needs is not there."""

    code = "E-NET-MISSING"


class NetworkPermissionError(NetworkError):
    """The kernel does not let this user do that to the network.

    Making an interface, and changing one, takes CAP_NET_ADMIN in its network namespace. A tap that root made
    for a user (``ip tuntap add dev NAME mode tap user USER``) may be opened by that user without it.
    """

    code = "E-NET-PERMISSION"
    fix = "run it as root, or have root make the interface: ip tuntap add dev NAME mode tap user USER"


class NetworkBusyError(NetworkError):
    """Another program has the interface, or the address, and it cannot be had twice."""

    code = "E-NET-BUSY"
    fix = "end the other program, or take another name"


class NetworkDownError(NetworkError):
    """The NIC has no carrier: its device says that the link is down, and would drop what is sent.

    Virtio 1.4, Network Device, Device configuration layout: VIRTIO_NET_S_LINK_UP in status.
    """

    code = "E-NET-DOWN"
    fix = "bring the link up where the device is served: its interface, switch or peer"


class NetworkKindError(NetworkError):
    """There is an interface of that name, and it is no tap, or one with another number of queues."""

    code = "E-NET-KIND"
    fix = "take another name; `ip -details link show dev NAME` says what it is"


class NetworkExtraError(NetworkError):
    """A link needs a program or a Python package that is not installed; the others work without it."""

    code = "E-NET-EXTRA"


class NetworkFramingError(PeerError):
    """The program at the other end of a ``stream:`` link sent a length that no frame has.

    Each frame comes after its length, 4 bytes, most significant first. What follows a wrong one cannot be
    understood: the connection is closed, and made anew if the link does that.
    """

    code = "E-NET-FRAMING"
    fix = "the other end must speak the protocol of QEMU's -netdev stream"


class CaptureFileError(NetworkError):
    """A file of captured frames is neither pcap nor pcapng, is damaged, or holds no Ethernet frame.

    The message names the byte at which it makes no sense. A capture whose writer was killed ends within a
    block: what comes before can be replayed.
    """

    code = "E-NET-CAPTURE"
    fix = "check the file with capinfos; pcap:FILE?damaged=replay replays what comes before the damage"


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
