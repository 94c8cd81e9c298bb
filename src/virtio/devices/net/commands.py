"""What a command of the control queue is here: the features that it needs, and what it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from virtio.spec.features import mask

__all__ = ["Command", "CommandRefused", "CommandTable", "command", "exactly"]


class CommandRefused(Exception):  # noqa: N818 -- no error of ours: the driver is answered ERR
    """The command cannot be carried out; nothing has changed."""


class Command(NamedTuple):
    """``act(data, room)`` carries it out and returns the result, ``room`` bytes at most.

    It raises CommandRefused if it cannot.

    ``needs`` is the mask of the features that must have been negotiated.
    """

    needs: int
    act: Callable[[bytes, int], bytes]


CommandTable: TypeAlias = dict[tuple[int, int], Command]
"""Commands by class and number."""


def command(act: Callable[[bytes], None], *needs: int) -> Command:
    """A command without a result, that needs the given feature bits."""

    def run(data: bytes, room: int) -> bytes:
        act(data)
        return b""

    return Command(mask(*needs), run)


def exactly(data: bytes, size: int) -> bytes:
    """``data``, which must have ``size`` bytes. Raises CommandRefused."""
    if len(data) != size:
        raise CommandRefused(f"{len(data)} bytes of data, not {size}")
    return data
