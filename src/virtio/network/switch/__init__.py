"""A learning switch: between the NICs of one process, and of several through a socket.

>>> from virtio.network.switch import PortSettings, Switch
>>> from virtio.testing.wire import Wire
>>> switch = Switch("lan")
>>> ports = [switch.add(PortSettings(vlan=vlan)) for vlan in (10, 10, 20)]
>>> nics = [Wire(port) for port in ports]
>>> nics[0].send([bytes(6 * [255]) + bytes.fromhex("525400000001") + bytes(50)])
1
>>> [len(nic.frames) for nic in nics]
[0, 1, 0]
"""

from virtio.network.switch.fabric import COUNTERS, Port, Switch
from virtio.network.switch.fdb import Fdb, Station
from virtio.network.switch.named import add_uplink, named_switches
from virtio.network.switch.protocol import describe
from virtio.network.switch.server import SwitchServer
from virtio.network.switch.settings import PortSettings
from virtio.network.switch.shared import SharedPort, query
from virtio.network.switch.uplink import Uplink

__all__ = [
    "COUNTERS",
    "Fdb",
    "Port",
    "PortSettings",
    "SharedPort",
    "Station",
    "Switch",
    "SwitchServer",
    "Uplink",
    "add_uplink",
    "describe",
    "named_switches",
    "query",
]
