from typing_extensions import disjoint_base

from virtio.storage.backend import Backend

@disjoint_base
class FileBackend(Backend):
    """A file or block device through the page cache."""

    def __init__(self, fd: int, block_device: bool) -> None: ...
    @property
    def fd(self) -> int: ...
    @property
    def block_device(self) -> bool: ...

@disjoint_base
class DirectBackend(FileBackend):
    """The same past the page cache (O_DIRECT); what is not aligned goes through a buffer that is."""

    def __init__(self, fd: int, block_device: bool, alignment: int) -> None: ...
    @property
    def alignment(self) -> int: ...
