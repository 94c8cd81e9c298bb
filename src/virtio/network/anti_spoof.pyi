import ipaddress
import re
from collections.abc import Sequence

from typing_extensions import disjoint_base

from virtio.network.filter import FilterLink
from virtio.network.link import Link

__all__ = ["AntiSpoofLink", "parse_mac", "parse_prefix"]

MAC: re.Pattern[str]

@disjoint_base
class AntiSpoofLink(FilterLink):
    def __init__(self, inner: Link, macs: Sequence[str] = (), ips: Sequence[str] = ()) -> None: ...

def parse_mac(text: str) -> bytes: ...
def parse_prefix(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network: ...
