"""A disk made of plain Python: its sectors are computed when they are read.

Every sector holds its own number in text, so a terabyte of them takes no space.
"""

from virtio.devices.blk import Blk
from virtio.drivers import Blk as BlkDriver
from virtio.storage import Storage
from virtio.testing import loopback_socket

SECTOR = 512


class Numbers(Storage):
    """Read-only: sector 7 says "sector 7"."""

    def __init__(self, size: int) -> None:
        super().__init__(size, read_only=True)

    def read(self, offset: int, buffer: memoryview) -> None:
        for start in range(0, len(buffer), SECTOR):
            text = f"sector {(offset + start) // SECTOR}\n".encode()
            buffer[start : start + SECTOR] = text.ljust(SECTOR, b"\0")


def main() -> None:
    with (
        Blk(Numbers(1 << 40)) as device,
        loopback_socket(device) as sock,
        BlkDriver.connect(sock) as disk,
    ):
        print(disk.capacity >> 40, "TiB, read-only" if disk.read_only else "")
        print(disk.read(123_456_789 * SECTOR, SECTOR).rstrip(b"\0").decode(), end="")


if __name__ == "__main__":
    main()
