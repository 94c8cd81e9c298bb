from typing_extensions import disjoint_base

from virtio.network.link import Link, Sink
from virtio.network.switch.fabric import Port

@disjoint_base
class Uplink(Sink):
    link: Link
    port: Port
    url: str
    def __init__(self, link: Link, port: Port, url: str = "") -> None: ...
    def stats(self) -> dict[str, int]: ...
    def close(self) -> None: ...
