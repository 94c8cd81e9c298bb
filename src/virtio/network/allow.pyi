from virtio.network.link import Link
from virtio.network.policy import Policy

class Inbound: ...

class AllowLink(Link):
    inner: Link
    policy: Policy
    def __init__(self, inner: Link, policy: Policy) -> None: ...
