"""What tests of devices and drivers need: shared memory and an in-process connection."""

from virtio.testing.loopback import loopback, loopback_socket
from virtio.testing.memory import SharedMemory

__all__ = ["SharedMemory", "loopback", "loopback_socket"]
