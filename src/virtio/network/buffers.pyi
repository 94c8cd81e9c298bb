from collections.abc import Iterable

from typing_extensions import Buffer

from virtio.network.link import Sink

__all__ = ["put_buffers"]

def put_buffers(
    sink: Sink, frames: Iterable[Buffer], queue: int = 0, header: dict[str, int] | None = None
) -> int: ...
