"""Networks that cannot be used."""

from __future__ import annotations

from virtio.errors.base import HostError, UsageError

__all__ = ["CaptureFileError", "NetworkError", "NetworkUrlError"]


class NetworkError(HostError):
    """A NIC's link cannot be opened or used: an interface that is missing, not permitted or in use."""

    code = "E-NET"


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
