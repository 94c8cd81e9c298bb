"""The network device (virtio 1.4, 5.1).

>>> with Net("null:", mac="52:54:00:12:34:56", num_queues=2) as nic:
...     nic.mac.hex(":"), nic.link_up, len(nic.queues)
('52:54:00:12:34:56', True, 5)
"""

from virtio.devices.net.device import Net

__all__ = ["Net"]
