from typing_extensions import disjoint_base

from virtio.storage.backend import Backend

@disjoint_base
class Disk:
    """What the queues of one block device share; each attribute may change while they run."""

    size: int
    writeback: bool
    def __init__(
        self, backend: Backend, size: int, *, name: str, read_only: bool, writeback: bool, identity: bytes
    ) -> None: ...
    @property
    def read_only(self) -> bool: ...
    @property
    def name(self) -> str: ...
