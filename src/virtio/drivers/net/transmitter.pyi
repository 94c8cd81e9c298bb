from collections.abc import Callable, Sequence
from typing import Any, final

from virtio.drivers.channel import Channel
from virtio.drivers.memory import Buffer
from virtio.errors import VirtioError

__all__ = ["Transmitter"]

@final
class Transmitter:
    channel: Channel
    slots: int
    slot_size: int
    header_size: int
    free_count: int
    longest: int
    frames: int
    total_bytes: int
    def __init__(self, channel: Channel, buffer: Buffer, *, slot_size: int, header_size: int) -> None: ...
    @property
    def outstanding(self) -> int: ...
    def retire(self) -> None: ...
    def send(self, frames: Sequence[Any], start: int, checker: Callable[[Any, int], bytes | None]) -> int: ...
    def poll(self) -> int: ...
    def error(self) -> VirtioError: ...
