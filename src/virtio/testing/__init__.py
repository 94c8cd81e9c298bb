"""What tests of devices and drivers need: shared memory, an in-process connection, a wire for NICs."""

from virtio.testing.loopback import loopback, loopback_socket
from virtio.testing.memory import SharedMemory
from virtio.testing.wire import Wire, WireFrame, put_frames

__all__ = ["SharedMemory", "Wire", "WireFrame", "loopback", "loopback_socket", "put_frames"]
