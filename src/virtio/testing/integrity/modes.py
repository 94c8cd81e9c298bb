"""All the ways of serving a file that `virtio blk` has, and how many of a run's requests each gets.

The shares follow the speed: what waits for the medium gets few requests, which take as long as many others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from virtio.testing.integrity.case import MIB, Case

__all__ = ["MODES", "Mode", "all_modes"]

SERVICE = 16 * MIB  # that the service itself needs


@dataclass(frozen=True, slots=True)
class Mode:
    """``share`` is in thousandths of all requests; ``eighths`` of the file fit into memory (0: all of it).

    A mapping is used where all of half a mebibyte is resident: with half of the file in memory it hardly ever
    is, with most of it pages are taken away from under the copies.
    """

    name: str
    share: int
    cache: str = "writeback"
    query: str = ""
    eighths: int = 0


MODES = (
    Mode("mapped", 800),
    Mode("not mapped", 100, query="map=off"),
    Mode("write-through", 20, cache="writethrough"),
    Mode("direct", 15, cache="none"),
    Mode("mapped, little memory", 45, eighths=7),
    Mode("not mapped, little memory", 10, query="map=off", eighths=4),
    Mode("write-through, little memory", 5, cache="writethrough", eighths=4),
    Mode("direct, little memory", 5, cache="none", eighths=4),
)


def all_modes(pattern: Case, memory_limit: int | None = None) -> Iterator[Case]:
    """A case for each mode, which share the requests of ``pattern``; the seeds follow each other.

    ``memory_limit``, in bytes, replaces those of the modes with little memory.
    """
    for number, mode in enumerate(MODES):
        options = replace(
            pattern.options,
            requests=max(1, pattern.options.requests * mode.share // 1000),
            seed=pattern.options.seed + number,
        )
        limit = memory_limit or SERVICE + pattern.span // 8 * mode.eighths
        yield replace(
            pattern, name=mode.name, options=options, cache=mode.cache, query=mode.query,
            memory_limit=limit if mode.eighths else None,
        )  # fmt: skip
