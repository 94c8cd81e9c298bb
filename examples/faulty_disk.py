"""A disk that fails on purpose: each third read is an I/O error, and reads take at least 10 ms.

Filters like this one wrap any storage, to see how a file system or a program behaves on a bad disk.
"""

import errno
import itertools
import logging
import time

from virtio.devices.blk import Blk
from virtio.drivers import Blk as BlkDriver
from virtio.errors import DeviceIOError
from virtio.storage import Storage, open_storage
from virtio.testing import loopback_socket


class Faulty(Storage):
    """Passes everything on to another storage, reads late and not always."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner.size, name="a faulty disk")
        self.inner = inner
        self.reads = itertools.count(1)

    def read(self, offset: int, buffer: memoryview) -> None:
        time.sleep(0.010)
        if next(self.reads) % 3 == 0:
            raise OSError(errno.EIO, "on purpose")
        self.inner.read(offset, buffer)

    def write(self, offset: int, data: memoryview) -> None:
        self.inner.write(offset, data)


def main() -> None:
    logging.getLogger("virtio").setLevel(logging.CRITICAL)  # the device logs each failure
    with (
        open_storage("mem:1M") as memory,
        Blk(Faulty(memory)) as device,
        loopback_socket(device) as sock,
        BlkDriver.connect(sock) as disk,
    ):
        for number in range(1, 7):
            try:
                disk.read(0, 512)
                print(f"read {number}: fine")
            except DeviceIOError as error:
                print(f"read {number}: {error}")


if __name__ == "__main__":
    main()
