"""Drivers: a device behind any transport as a Python object.

``Blk``, ``Net`` and ``Entropy`` connect to vhost-user back-ends, pyvirtio's or anybody's, and ``Raw`` to a
device of any other type; ``virtio.drivers.aio`` has the disk and the NIC for asyncio; ``Driver`` is what a
driver for another device type builds on, ``Transport`` what another way of reaching devices implements.
"""

from virtio.drivers.blk import Blk, BlkFile, BlkOptions, BlkRequest
from virtio.drivers.core import Driver, DriverOptions
from virtio.drivers.entropy import Entropy
from virtio.drivers.load import LoadOptions, LoadResult, run_load
from virtio.drivers.memory import Arena, Buffer
from virtio.drivers.net import Frame, Net, NetOptions
from virtio.drivers.net.load import NetLoadOptions, NetLoadResult, run_net_load
from virtio.drivers.queue import Request, RequestQueue
from virtio.drivers.raw import Raw, RawOptions
from virtio.drivers.transport import Transport

__all__ = [
    "Arena",
    "Blk",
    "BlkFile",
    "BlkOptions",
    "BlkRequest",
    "Buffer",
    "Driver",
    "DriverOptions",
    "Entropy",
    "Frame",
    "LoadOptions",
    "LoadResult",
    "Net",
    "NetLoadOptions",
    "NetLoadResult",
    "NetOptions",
    "Raw",
    "RawOptions",
    "Request",
    "RequestQueue",
    "Transport",
    "run_load",
    "run_net_load",
]
