"""The block device (virtio 1.4, 5.2).

>>> with Blk("mem:1M", serial="demo") as disk:
...     disk.capacity
1048576
"""

from virtio.devices.blk.device import Blk

__all__ = ["Blk"]
