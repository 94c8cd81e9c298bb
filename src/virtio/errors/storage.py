"""Storage that cannot be used."""

from __future__ import annotations

from virtio.errors.base import HostError, UsageError

__all__ = [
    "StorageDirectError",
    "StorageError",
    "StorageFormatError",
    "StorageKindError",
    "StorageLockedError",
    "StorageMissingError",
    "StoragePermissionError",
    "StorageSizeError",
    "StorageUrlError",
]


class StorageError(HostError):
    """A disk's storage cannot be opened or used: missing, locked, not writable, not a disk."""

    code = "E-STORAGE"


class StorageUrlError(UsageError):
    """A storage URL names an unknown scheme, an unknown option or a size that is not one.

    Storage is a path, ``file:PATH[?direct=on&read-only=on&lock=off]``, ``mem:SIZE`` or ``null:SIZE``; sizes
    are bytes or carry a suffix k, M, G or T (powers of 1024).
    """

    code = "E-STORAGE-URL"
    fix = "write a path, file:PATH, mem:SIZE or null:SIZE (sizes such as 512M or 1G)"


class StorageMissingError(StorageError):
    """The disk's file does not exist, nor is one made for you: its size would have to be guessed."""

    code = "E-STORAGE-MISSING"
    fix = "check the path, or make an empty disk with: truncate -s 1G PATH"


class StorageKindError(StorageError):
    """The path is neither a regular file nor a block device, so it has no sectors to serve."""

    code = "E-STORAGE-KIND"
    fix = "give a disk image or a block device"


class StoragePermissionError(StorageError):
    """The file may not be opened as asked: no permission, or it is on something read-only."""

    code = "E-STORAGE-PERMISSION"
    fix = "grant access to the file, or serve it read-only (--read-only)"


class StorageLockedError(StorageError):
    """Another program uses the disk in a way that excludes this use.

    A writer needs the disk for itself, readers share it. The lock is an open-file-description lock that QEMU,
    Cloud Hypervisor and pyvirtio respect; a mounted block device counts as locked too.
    """

    code = "E-STORAGE-LOCKED"
    fix = "stop the other user, open both read-only, or, knowing better, add ?lock=off to a file: URL"


class StorageSizeError(StorageError):
    """The disk is smaller than one sector, or cannot be given the size asked for."""

    code = "E-STORAGE-SIZE"
    fix = "give the disk a size that is a multiple of 512 bytes"


class StorageDirectError(StorageError):
    """The file system does not do direct I/O (O_DIRECT), which ``cache=none`` asks for."""

    code = "E-STORAGE-DIRECT"
    fix = "use cache=writeback, or keep the image on a file system with direct I/O (ext4, xfs, btrfs)"


class StorageFormatError(StorageError):
    """A disk image is of a format that is not raw, such as qcow2 or VMDK.

    Served as raw it would show the guest the format's own tables in place of the disk, and the first write
    could damage it for good.
    """

    code = "E-STORAGE-FORMAT"
    fix = "convert it: qemu-img convert -O raw IMAGE IMAGE.raw"
