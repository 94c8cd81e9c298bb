"""What ``virtio demo`` shows: a disk served and driven from Python, then the same disk in real guests."""

from virtio.demo.act import Act, Outcome
from virtio.demo.direct import direct_act
from virtio.demo.guest import guest_act
from virtio.demo.stage import Stage

__all__ = ["Act", "Outcome", "Stage", "direct_act", "guest_act"]
