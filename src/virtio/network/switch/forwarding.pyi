from typing_extensions import disjoint_base

from virtio.network.switch.fdb import Fdb

__all__ = ["Forwarder"]

@disjoint_base
class Forwarder:
    """Forwards between the ports of its snapshot."""

    fdb: Fdb
    forward_reserved: bool
    def __init__(self, fdb: Fdb, forward_reserved: bool) -> None: ...
