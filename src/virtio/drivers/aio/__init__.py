"""The drivers for asyncio: the same names, awaited.

::

    async with await aio.Blk.connect("/tmp/disk.sock") as disk:
        await asyncio.gather(*(disk.read(n * 4096, 4096) for n in range(1000)))

    async with await aio.Net.connect("/tmp/net.sock") as nic:
        await nic.send([frame])
        async for frame in nic.frames():
            print(bytes(frame))
"""

from virtio.drivers.aio.blk import Blk
from virtio.drivers.aio.net import Net

__all__ = ["Blk", "Net"]
