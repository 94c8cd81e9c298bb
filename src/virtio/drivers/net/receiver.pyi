from typing import final

from typing_extensions import Buffer as BufferProtocol

from virtio.drivers.channel import Channel
from virtio.drivers.memory import Buffer
from virtio.errors import VirtioError
from virtio.spec.net import Hdr

__all__ = ["Frame", "Receiver"]

@final
class Receiver:
    channel: Channel
    slots: int
    slot_size: int
    header_size: int
    mergeable: bool
    pair: int
    lent: int
    fault: int
    fault_detail: int
    frames: int
    total_bytes: int
    copied: int
    def __init__(
        self,
        channel: Channel,
        buffer: Buffer,
        *,
        slot_size: int,
        header_size: int,
        mergeable: bool,
        pair: int = 0,
    ) -> None: ...
    def fill(self) -> None: ...
    def retire(self) -> None: ...
    def burst(self, limit: int) -> list[Frame]: ...
    def error(self) -> VirtioError: ...

@final
class Frame(BufferProtocol):
    pair: int
    def __init__(self) -> None: ...
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    @property
    def data(self) -> memoryview: ...
    @property
    def header(self) -> Hdr: ...
