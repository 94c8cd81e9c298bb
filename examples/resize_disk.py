"""Make a disk larger while a driver uses it; the driver is told."""

import queue

from virtio.devices.blk import Blk
from virtio.drivers import Blk as BlkDriver
from virtio.testing import loopback_socket


def main() -> None:
    news: queue.Queue[int] = queue.Queue()
    with (
        Blk("mem:1M") as device,
        loopback_socket(device) as sock,
        BlkDriver.connect(sock, on_resize=news.put) as disk,
    ):
        print("before:", disk.capacity)
        device.resize(4 << 20)
        print("the driver heard of:", news.get(timeout=5))
        disk.write(3 << 20, b"new room".ljust(512, b"\0"))
        print("read back:", disk.read(3 << 20, 512)[:8].decode())


if __name__ == "__main__":
    main()
