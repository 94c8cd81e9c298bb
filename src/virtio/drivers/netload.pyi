from typing import final

from virtio.drivers.net.receiver import Receiver
from virtio.drivers.net.transmitter import Transmitter

__all__ = ["NetLoad"]

@final
class NetLoad:
    left: int
    sent: int
    received: int
    received_bytes: int
    dropped: int
    cpu_ns: int
    elapsed_ns: int
    def __init__(
        self,
        receiver: Receiver,
        transmitter: Transmitter,
        frame: bytes | None = None,
        *,
        receiving: bool = False,
        echoing: bool = False,
        swapping: bool = False,
        stamping: bool = False,
        polling: bool = False,
    ) -> None: ...
    def fill(self, frame: bytes) -> None: ...
    @property
    def outstanding(self) -> int: ...
    @property
    def fault(self) -> int: ...
    def allow(self, frames: int) -> None: ...
    def stop(self) -> None: ...
    def run(self, nanoseconds: int) -> bool: ...
