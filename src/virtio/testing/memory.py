"""Memory to share with a device under test."""

from __future__ import annotations

import ctypes
import mmap
import os

from virtio.closing import Closing
from virtio.vhost_user.frontend import SharedRegion

__all__ = ["SharedMemory"]


class SharedMemory(Closing):
    """Zeroed bytes on a memfd, mapped here, to be shared with a back-end as one region.

    ``guest_address`` is what the device calls its first byte; ``bytes`` is the memory itself.
    """

    def __init__(self, size: int, *, guest_address: int = 0) -> None:
        self.size = size
        self.guest_address = guest_address
        self.fd = os.memfd_create("virtio-testing", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, size)
        self.bytes = mmap.mmap(self.fd, size)
        # The address alone is kept: a lasting export would keep the mapping from being closed.
        self.user_address = ctypes.addressof(ctypes.c_char.from_buffer(self.bytes))

    @property
    def region(self) -> SharedRegion:
        """What to give to `Frontend.set_mem_table` and its like."""
        return SharedRegion(self.guest_address, self.size, self.user_address, 0, self.fd)

    def user(self, offset: int) -> int:
        """The address in this process of the byte at ``offset``, as ring addresses are given."""
        return self.user_address + offset

    def close(self) -> None:
        """Unmap and close. Idempotent."""
        if not self.bytes.closed:
            self.bytes.close()
            os.close(self.fd)
