"""A learning switch: between the NICs of one process, and of several through a socket.

>>> from virtio.network.switch import PortSettings, Switch
>>> from virtio.testing.bursts import CollectSink, put_frames
>>> switch = Switch("lan")
>>> ports = [switch.add(PortSettings(vlan=vlan)) for vlan in (10, 10, 20)]
>>> sinks = [CollectSink() for port in ports]
>>> for port, sink in zip(ports, sinks): port.connect(sink)
>>> put_frames(ports[0], [bytes(6 * [255]) + bytes.fromhex("525400000001") + bytes(50)])
1
>>> [len(sink.frames) for sink in sinks]
[0, 1, 0]
"""

from virtio.network.switch.fabric import COUNTERS, Port, Switch
from virtio.network.switch.fdb import Fdb, Station
from virtio.network.switch.settings import PortSettings

__all__ = ["COUNTERS", "Fdb", "Port", "PortSettings", "Station", "Switch"]
