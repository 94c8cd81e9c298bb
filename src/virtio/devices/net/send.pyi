from virtio.network.link import Link

__all__ = ["send"]

def send(link: Link, frame: bytes) -> bool: ...
