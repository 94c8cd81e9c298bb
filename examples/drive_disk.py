"""Drive the disk behind a vhost-user socket from Python, whoever serves it.

    python drive_disk.py SOCKET

With a socket it writes to the first bytes of that disk! Without one it serves a disk in memory to itself.
"""

import sys
import tempfile

import virtio
from virtio.devices.blk import Blk
from virtio.serve import serving


def show(path: str) -> None:
    with virtio.drivers.Blk.connect(path) as disk:
        print(f"{disk.capacity} bytes in blocks of {disk.block_size}")
        disk.write(0, b"hello".ljust(disk.block_size, b"\0"))
        disk.flush()
        print(disk.read(0, disk.block_size)[:5])
        with disk.open() as file:  # as a file: any offset, any length
            file.seek(1)
            file.write(b"ipp")
            file.seek(0)
            print(file.read(5))


def main() -> None:
    if len(sys.argv) > 1:
        show(sys.argv[1])
        return
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/disk.sock"
        with Blk("mem:1M") as device, serving(device, path):
            show(path)


if __name__ == "__main__":
    main()
