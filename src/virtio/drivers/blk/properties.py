"""What a block device says of itself in its configuration space, in bytes rather than sectors."""

from __future__ import annotations

from dataclasses import dataclass

from virtio.spec import blk
from virtio.spec import features as bits

__all__ = ["Properties", "read_properties"]

ANY_LENGTH = 1 << 32


@dataclass(frozen=True, slots=True)
class Properties:
    """A disk's properties; all sizes in bytes. A limit is 0 where the device does not offer the request."""

    capacity: int
    block_size: int = blk.SECTOR_SIZE
    physical_block_size: int = blk.SECTOR_SIZE
    alignment_offset: int = 0
    min_io_size: int = 0
    opt_io_size: int = 0
    segment_size: int = ANY_LENGTH
    segments: int = 1
    num_queues: int = 1
    max_discard: int = 0
    discard_alignment: int = 0
    max_write_zeroes: int = 0
    write_zeroes_may_unmap: bool = False


def read_properties(config: bytes, features: int) -> Properties:
    """Make sense of the configuration space, as much of it as the features bring with them."""
    raw = blk.Config.unpack(config.ljust(blk.Config.SIZE, b"\0"))

    def has(feature: int) -> bool:
        return bool(features & bits.mask(feature))

    block = raw.blk_size if has(blk.F_BLK_SIZE) and raw.blk_size else blk.SECTOR_SIZE
    topology = raw.topology if has(blk.F_TOPOLOGY) else blk.Topology()
    discard, zeroes = has(blk.F_DISCARD), has(blk.F_WRITE_ZEROES)
    return Properties(
        capacity=raw.capacity * blk.SECTOR_SIZE,
        block_size=block,
        physical_block_size=block << min(topology.physical_block_exp, 31),
        alignment_offset=topology.alignment_offset * block,
        min_io_size=topology.min_io_size * block,
        opt_io_size=topology.opt_io_size * block,
        segment_size=raw.size_max or ANY_LENGTH if has(blk.F_SIZE_MAX) else ANY_LENGTH,
        segments=max(1, raw.seg_max) if has(blk.F_SEG_MAX) else 1,
        num_queues=max(1, raw.num_queues) if has(blk.F_MQ) else 1,
        max_discard=(raw.max_discard_sectors or ANY_LENGTH) * blk.SECTOR_SIZE if discard else 0,
        discard_alignment=raw.discard_sector_alignment * blk.SECTOR_SIZE if discard else 0,
        max_write_zeroes=(raw.max_write_zeroes_sectors or ANY_LENGTH) * blk.SECTOR_SIZE if zeroes else 0,
        write_zeroes_may_unmap=bool(zeroes and raw.write_zeroes_may_unmap),
    )
