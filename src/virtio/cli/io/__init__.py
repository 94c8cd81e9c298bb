"""``virtio io``: drive the disk or the NIC behind a vhost-user socket from the shell."""

from virtio.cli.io import disk, info, load, nic
from virtio.cli.io.target import Target, command

__all__ = ["Target", "command", "disk", "info", "load", "nic"]
