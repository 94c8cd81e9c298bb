"""Networks that cannot be used."""

from __future__ import annotations

from virtio.errors.base import HostError, UsageError

__all__ = ["NetworkError", "NetworkUrlError"]


class NetworkError(HostError):
    """A NIC's link cannot be opened or used: an interface that is missing, not permitted or in use."""

    code = "E-NET"


class NetworkUrlError(UsageError):
    """A link's URL names an unknown scheme, an unknown option or a value that is none.

    ``virtio net --help`` lists the schemes and the filters that can be among their options.
    """

    code = "E-NET-URL"
    fix = "write a link such as user:, tap:NAME, switch:NAME or null:"
