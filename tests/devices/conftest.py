"""The fixtures of the devices' tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
from ring_guest import Guest

from virtio.device import Device
from virtio.devices.blk import Blk
from virtio.devices.blk.aio import io_uring_problem


@pytest.fixture(params=["threads", "io_uring"])
def aio(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whatever disk the test makes uses this where it can, unless it says otherwise."""
    if request.param == "io_uring" and (problem := io_uring_problem()):
        pytest.skip(problem)
    monkeypatch.setitem(
        Blk.__init__.__kwdefaults__, "aio", "threads" if request.param == "threads" else "auto"
    )
    return str(request.param)


GuestMaker = Callable[..., Guest]


@pytest.fixture
def guest() -> Iterator[GuestMaker]:
    """Makes guests that are gone at the end of the test."""
    made: list[Guest] = []

    def make(
        device: Device,
        *,
        features: int | None = None,
        size: int = 64,
        legacy: bool = False,
        packed: bool = False,
        poll_us: int = 0,
        queues: Sequence[int] | None = None,
    ) -> Guest:
        """``queues``: the only ones to set up."""
        options = {"features": features, "size": size, "legacy": legacy, "packed": packed, "poll_us": poll_us}
        options["queues"] = queues
        made.append(Guest(device, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.close()
