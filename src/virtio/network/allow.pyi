from virtio.network.link import Link, Sink
from virtio.network.policy import Policy

class Inbound(Sink):
    def __init__(self, owner: AllowLink) -> None: ...

class AllowLink(Link):
    inner: Link
    policy: Policy
    inbound: Inbound
    def __init__(self, inner: Link, policy: Policy) -> None: ...
