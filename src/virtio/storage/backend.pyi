from typing import Never

from typing_extensions import Buffer, disjoint_base

from virtio.storage.base import Storage

@disjoint_base
class Backend:
    """Moves a storage's bytes; the base of every way to do it."""

    @property
    def immediate(self) -> bool: ...
    def read_into(self, offset: int, buffer: Buffer) -> None: ...
    def write_from(self, offset: int, data: Buffer, durable: bool = False) -> None: ...
    def sync(self) -> None: ...
    def discard_range(self, offset: int, length: int) -> None: ...
    def zero_range(self, offset: int, length: int, unmap: bool = False) -> None: ...

class NullBackend(Backend):
    """Says yes to everything and touches nothing: what remains is the cost of the rings."""

    def __init__(self, *args: Never, **kwargs: Never) -> None: ...

@disjoint_base
class MemoryBackend(Backend):
    """Copies between guest memory and a shared mapping that stays as large as it is."""

    def __init__(self, fd: int, mapping: Buffer) -> None: ...

@disjoint_base
class PythonBackend(Backend):
    """Calls the methods of a Storage written in plain Python, with one buffer of its own a request."""

    def __init__(self, storage: Storage) -> None: ...
