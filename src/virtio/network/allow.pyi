from typing_extensions import disjoint_base

from virtio.network.link import Link, Sink
from virtio.network.policy import Policy

__all__ = ["AllowLink"]

@disjoint_base
class Inbound(Sink):
    def __init__(self, owner: AllowLink) -> None: ...

@disjoint_base
class AllowLink(Link):
    inner: Link
    policy: Policy
    inbound: Inbound
    def __init__(self, inner: Link, policy: Policy) -> None: ...
