from typing_extensions import disjoint_base

from virtio.network.filter import FilterLink
from virtio.network.link import Link
from virtio.network.policy import Policy

__all__ = ["AllowLink"]

@disjoint_base
class AllowLink(FilterLink):
    policy: Policy
    def __init__(self, inner: Link, policy: Policy) -> None: ...
