"""What an impaired direction does to its frames, and how that is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from virtio.errors import NetworkUrlError
from virtio.network.units import parse_count, parse_percent, parse_rate, parse_size, parse_time

__all__ = ["DISTRIBUTIONS", "OPTIONS", "Impairment", "both_directions"]

DISTRIBUTIONS = ("uniform", "normal", "pareto", "paretonormal")
EXCEED = ("delay", "drop")
Pair = tuple[float, float]


@dataclass(frozen=True)
class Impairment:
    """One direction's: as `virtio.network.impair` names its options, in nanoseconds, bytes and probabilities.

    A pair is a probability and its correlation with the frame before.
    """

    delay: int = 0
    jitter: tuple[int, float] = (0, 0.0)
    distribution: str = "uniform"
    loss: Pair = (0.0, 0.0)
    gemodel: tuple[float, float, float, float] | None = None
    duplicate: Pair = (0.0, 0.0)
    corrupt: Pair = (0.0, 0.0)
    reorder: Pair = (0.0, 0.0)
    gap: int = 0
    rate: int = 0
    burst: int | None = None
    queue: int | None = None
    overhead: int = 0
    exceed: str = "delay"
    limit: int = 1000

    @property
    def active(self) -> bool:
        """Whether it does anything to a frame."""
        shares = (self.loss, self.duplicate, self.corrupt)
        return bool(
            self.delay or self.jitter[0] or self.rate or self.gemodel or any(share[0] for share in shares)
        )

    @property
    def burst_bytes(self) -> int:
        """Bytes that pass at once after a pause: as given, else none when delaying, 10 ms' when dropping."""
        if self.burst is not None:
            return self.burst
        return max(self.rate // 100, 128 << 10) if self.exceed == "drop" else 0

    @property
    def queue_bytes(self) -> int:
        """Bytes that wait for the rate: as given, else what it sends in 100 ms, at least 128 KiB."""
        return self.queue if self.queue is not None else max(self.rate // 10, 128 << 10)

    def changed(self, **options: Any) -> Impairment:
        """The same with ``options`` written as in a URL; None is an option's default. NetworkUrlError."""
        values = {name: read_option(name, value) for name, value in options.items()}
        result = replace(self, **values)
        if result.reorder[0] and not (result.delay or result.jitter[0]):
            raise NetworkUrlError("reorder needs a delay: frames overtake those that are delayed")
        if result.gap and not result.reorder[0]:
            raise NetworkUrlError("gap needs reorder, the share of frames that overtake")
        return result


def _one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(" or ".join(words))
        return text

    return parse


def _correlated(parse: Callable[[str], Any]) -> Callable[[str], tuple[Any, float]]:
    def pair(text: str) -> tuple[Any, float]:
        value, _, correlation = text.partition(",")
        return parse(value), parse_percent(correlation) if correlation else 0.0

    return pair


def _gemodel(text: str) -> tuple[float, float, float, float]:
    """p[,r[,1-h[,1-k]]]: into the bad state, out of it, loss in it, loss in the good one."""
    parts = [parse_percent(part) for part in text.split(",")]
    if len(parts) > 4:
        raise ValueError("up to four percentages: p,r,1-h,1-k")
    p = parts[0]
    return (p, *(parts[1:] + [1 - p, 1.0, 0.0][len(parts) - 1 :]))  # type: ignore[return-value]


def _at_least_one(text: str) -> int:
    value = parse_count(text)
    if value == 0:
        raise ValueError("a whole number from 1 on")
    return value


OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "delay": parse_time,
    "jitter": _correlated(parse_time),
    "distribution": _one_of(DISTRIBUTIONS),
    "loss": _correlated(parse_percent),
    "gemodel": _gemodel,
    "duplicate": _correlated(parse_percent),
    "corrupt": _correlated(parse_percent),
    "reorder": _correlated(parse_percent),
    "gap": _at_least_one,
    "rate": parse_rate,
    "burst": parse_size,
    "queue": parse_size,
    "overhead": lambda text: parse_count(text, 65535),
    "exceed": _one_of(EXCEED),
    "limit": _at_least_one,
}
"""How each option of `Impairment` is read."""


def read_option(name: str, value: str | None) -> Any:
    """One option's value from its text, or its default for None. NetworkUrlError names it."""
    if name not in OPTIONS:
        raise NetworkUrlError(f"no impairment is called {name!r} (there are: {', '.join(OPTIONS)})")
    if value is None:
        return getattr(Impairment(), name)
    try:
        return OPTIONS[name](value)
    except ValueError as error:
        raise NetworkUrlError(f"{name}={value}: {name} is {error}") from None


def both_directions(options: Mapping[str, str]) -> tuple[Impairment, Impairment]:
    """In (to the guest) and out (from it), from a URL's options: ``rate=20mbit/1mbit`` differs by direction.

    ``impair=in`` or ``impair=out`` leaves the other direction alone. Raises NetworkUrlError.
    """
    where = options.get("impair", "both")
    if where not in ("in", "out", "both"):
        raise NetworkUrlError(f"impair={where}: impair is in (to the guest), out (from it) or both")
    sides = []
    for side, name in enumerate(("in", "out")):
        chosen = {key: _side(value, side) for key, value in options.items() if key in OPTIONS}
        settings = Impairment().changed(**chosen)
        sides.append(settings if where in (name, "both") else Impairment())
    return sides[0], sides[1]


def _side(value: str, side: int) -> str:
    both = value.split("/")
    return both[min(side, len(both) - 1)] if len(both) <= 2 else value
