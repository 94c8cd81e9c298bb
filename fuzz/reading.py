"""The fuzzer's bytes, read as whatever a target needs; zeros once they are used up."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

__all__ = ["Reader", "fuzz", "instrumented"]


class Reader:
    """Takes an input apart, from its start."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    @property
    def empty(self) -> bool:
        """Whether all of it was read."""
        return self.at >= len(self.data)

    def take(self, count: int) -> bytes:
        """The next bytes, fewer at the end."""
        piece = self.data[self.at : self.at + count]
        self.at += count
        return piece

    def number(self, size: int) -> int:
        """A little-endian number of ``size`` bytes."""
        return int.from_bytes(self.take(size), "little")

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self.data))


def instrumented(*packages: str) -> AbstractContextManager[object]:
    """While this lasts, what is imported of these packages steers the fuzzer; in a test, nothing happens."""
    if "VIRTIO_FUZZING" not in os.environ:
        return nullcontext()
    import atheris

    manager: AbstractContextManager[object] = atheris.instrument_imports(include=list(packages))
    return manager


def fuzz(target: Callable[[Reader], None], seeds: Sequence[bytes] = ()) -> None:
    """Run ``target`` on inputs until libFuzzer, which has the command line, says it is enough.

    The command line's first argument is the corpus, to which ``seeds`` are added, or one input to try.
    """
    import atheris

    corpus = Path(sys.argv[1])
    if not corpus.is_file():
        corpus.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds):
            (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup(sys.argv, lambda data: target(Reader(data)))
    atheris.Fuzz()
