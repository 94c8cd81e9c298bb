"""All the ways of serving a file that `virtio blk` has, and how many of a run's requests each gets.

The shares follow the speed: what waits for the medium gets few requests, which take as long as many others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from virtio.testing.integrity.case import MIB, Case

__all__ = ["MODES", "Mode", "all_modes"]

LEAST_LIMIT = 32 * MIB  # what the service itself needs, and some


@dataclass(frozen=True, slots=True)
class Mode:
    """``share`` is in thousandths of all requests; ``little`` memory is half of what the file has."""

    name: str
    share: int
    cache: str = "writeback"
    query: str = ""
    little: bool = False


MODES = (
    Mode("mapped", 680),
    Mode("not mapped", 210, query="map=off"),
    Mode("write-through", 30, cache="writethrough"),
    Mode("direct", 25, cache="none"),
    Mode("mapped, little memory", 35, little=True),
    Mode("not mapped, little memory", 10, query="map=off", little=True),
    Mode("write-through, little memory", 5, cache="writethrough", little=True),
    Mode("direct, little memory", 5, cache="none", little=True),
)


def all_modes(pattern: Case, memory_limit: int | None = None) -> Iterator[Case]:
    """A case for each mode, which share the requests of ``pattern``; the seeds follow each other."""
    limit = memory_limit or max(LEAST_LIMIT, pattern.span // 2)
    for number, mode in enumerate(MODES):
        options = replace(
            pattern.options,
            requests=max(1, pattern.options.requests * mode.share // 1000),
            seed=pattern.options.seed + number,
        )
        yield replace(
            pattern, name=mode.name, options=options, cache=mode.cache, query=mode.query,
            memory_limit=limit if mode.little else None,
        )  # fmt: skip
