"""Guest memory: mapped regions, the check of every address, the I/O TLB and the dirty log."""

from virtio.memory.iotlb import Iotlb, IotlbEntry
from virtio.memory.table import GuestMemory, Mapping

__all__ = ["GuestMemory", "Iotlb", "IotlbEntry", "Mapping"]
