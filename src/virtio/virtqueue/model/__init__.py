"""A virtqueue in plain Python that is obviously right: the oracle of the tests, and a way to learn the rings.

It follows the specification's text sentence by sentence, keeps no shortcut and shares no code with the
compiled rings. Both ring kinds have both ends, with one vocabulary::

    driver.add([(address, length)], [(address, length)], token)     readable buffers, then writable ones
    driver.publish()            -> True if the device must be notified
    device.take()               -> a Chain, or None when nothing is available
    device.give(chain, written)
    device.publish()            -> True if the driver must be notified
    driver.reap()               -> [(token, written), ...]

`Memory` is the memory both ends see. A driver that breaks the rules makes `take` raise `Malformed`, a
device that does makes `reap` raise it. Single-threaded: two ends in two threads need the memory barriers
that plain Python cannot express; the comments say where the specification asks for them.

>>> memory = Memory(bytearray(0x2000))
>>> ring = dict(size=4, descriptors=0x1000, driver_area=0x1100, device_area=0x1200)
>>> driver, device = PackedDriver(memory, **ring), PackedDevice(memory, **ring)
>>> driver.add([(0x0, 16)], [(0x10, 1)], token=7)
True
>>> driver.publish()
True
>>> chain = device.take()
>>> chain.readable, chain.writable
([(0, 16)], [(16, 1)])
>>> device.give(chain, 1)
>>> device.publish()
True
>>> driver.reap()
[(7, 1)]
"""

from .chain import Chain, Malformed
from .memory import Memory
from .packed import PackedDevice, PackedDriver
from .split import SplitDevice, SplitDriver

__all__ = [
    "Chain",
    "Malformed",
    "Memory",
    "PackedDevice",
    "PackedDriver",
    "SplitDevice",
    "SplitDriver",
]
