"""The block device's configuration space (virtio 1.4, 5.2.4), as far as its features reach."""

from __future__ import annotations

from virtio.device import ConfigSpace
from virtio.spec import blk as spec
from virtio.storage import Storage

__all__ = ["MOST_RANGES", "MOST_RANGE_SECTORS", "initial_config"]

# As request.pxd has them.
MOST_RANGES = 64  # segments in a DISCARD or WRITE_ZEROES request
MOST_RANGE_SECTORS = 1 << 22  # sectors in one such segment

MOST_SEGMENT_BYTES = 1 << 22

USUAL_QUEUE_SIZE = 128
"""What QEMU and others give a disk unless told otherwise. The configuration is read before the driver's queue
size is known, and Linux fills an indirect table with ``seg_max`` buffers even on a shorter queue, which the
specification forbids (virtio 1.4, 2.7.5.3.1)."""


def initial_config(
    storage: Storage, *, block: int, num_queues: int, queue_size: int, writeback: bool, read_only: bool
) -> ConfigSpace:
    """What the driver first reads. Part of a logical block (of ``block`` bytes) at the end is left out."""
    physical = max(storage.physical_block_size // block, 1)
    return ConfigSpace(
        spec.Config,
        writable=("writeback",),
        cut_off="max_secure_erase_sectors",
        capacity=storage.size // block * block // spec.SECTOR_SIZE,
        size_max=MOST_SEGMENT_BYTES,
        seg_max=min(queue_size, USUAL_QUEUE_SIZE) - 2,
        blk_size=block,
        topology=spec.Topology(physical_block_exp=physical.bit_length() - 1, min_io_size=physical),
        writeback=int(writeback),
        num_queues=num_queues,
        **({} if read_only else _deallocation(storage, block)),
    )


def _deallocation(storage: Storage, block: int) -> dict[str, int]:
    """The limits of WRITE_ZEROES, and of DISCARD where the storage gives space back."""
    fields = {
        "max_write_zeroes_sectors": MOST_RANGE_SECTORS,
        "max_write_zeroes_seg": MOST_RANGES,
        "write_zeroes_may_unmap": int(storage.can_discard),
    }
    if storage.can_discard:
        fields["max_discard_sectors"] = MOST_RANGE_SECTORS
        fields["max_discard_seg"] = MOST_RANGES
        fields["discard_sector_alignment"] = max(storage.discard_granularity, block) // spec.SECTOR_SIZE
    return fields
