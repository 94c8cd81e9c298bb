from collections.abc import Iterable
from typing import Any

from typing_extensions import Buffer

from virtio.network.link import Sink

def put_buffers(
    sink: Sink, frames: Iterable[Buffer], queue: int = 0, header: dict[str, int] | None = None
) -> int: ...
