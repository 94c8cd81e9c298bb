"""What the kernel says about a file's pages and blocks, before they are touched."""

from __future__ import annotations

import os

import cython
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.libc.string import memset
from cython.cimports.virtio.storage import linux


def mappable(fd: int) -> bool:
    """Whether a mapping may stand for the file: its file system is known, and says truly what is resident.

    Known are ext2 to ext4, XFS, Btrfs and tmpfs. mincore says "all of it" to who may not write the file and
    does not own it. Network file systems, FUSE and overlays are left alone: there a mapping may not show what
    others write, or wait where this cannot be foreseen.
    """
    status = cython.declare(linux.Statfs)
    owner = cython.declare(linux.Stat)
    if cython.sizeof(cython.p_void) < 8 or linux.fstatfs(fd, cython.address(status)) != 0:
        return False
    if status.f_type not in (
        linux.EXT4_SUPER_MAGIC,
        linux.XFS_SUPER_MAGIC,
        linux.BTRFS_SUPER_MAGIC,
        linux.TMPFS_MAGIC,
    ):
        return False
    if linux.fstat(fd, cython.address(owner)) == 0 and owner.st_uid == linux.geteuid():
        return True
    return os.access(f"/proc/self/fd/{fd}", os.W_OK, effective_ids=True)


def all_resident(start, length):
    pages = cython.declare(cython.uchar[128])
    count: uint64_t = (length + PAGE - 1) // PAGE
    found: uint64_t = 0
    if count > MOST_PAGES or linux.mincore(start, length, pages) != 0:
        return False
    while found < count and pages[found] & 1:
        found += 1
    return found == count


def all_allocated(fd, start, end):
    room: uint64_t[7 * 128 + 4]  # struct fiemap and its extents: as many as there can be pages
    found: cython.pointer[linux.ExtentMap] = cython.cast(
        cython.pointer[linux.ExtentMap], cython.cast(cython.p_void, room)
    )
    i: cython.uint
    memset(room, 0, 32)
    found.fm_start = start
    found.fm_length = end - start
    found.fm_extent_count = MOST_PAGES
    if linux.ioctl(fd, linux.FS_IOC_FIEMAP, found) != 0:
        return False
    for i in range(found.fm_mapped_extents):
        if found.fm_extents[i].fe_logical > start:
            return False
        if found.fm_extents[i].fe_logical + found.fm_extents[i].fe_length > start:
            start = found.fm_extents[i].fe_logical + found.fm_extents[i].fe_length
    return start >= end
