"""What ``virtio demo`` shows: a disk in Python, a disk in real guests, and two guests that talk."""

from virtio.demo.act import Act, Outcome
from virtio.demo.direct import direct_act
from virtio.demo.guest import guest_act
from virtio.demo.network import network_act
from virtio.demo.stage import Stage

__all__ = ["Act", "Outcome", "Stage", "direct_act", "guest_act", "network_act"]
