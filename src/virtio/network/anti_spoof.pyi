import ipaddress
import re
from collections.abc import Sequence

from virtio.network.filter import FilterLink
from virtio.network.link import Link

MAC: re.Pattern[str]

class AntiSpoofLink(FilterLink):
    def __init__(self, inner: Link, macs: Sequence[str] = (), ips: Sequence[str] = ()) -> None: ...

def parse_mac(text: str) -> bytes: ...
def parse_prefix(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network: ...
