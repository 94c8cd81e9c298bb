"""The fuzzers' targets, on their own first inputs and some cut short: what `make fuzz` starts from works."""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest

from virtio.devices.blk import Blk
from virtio.storage import MemoryStorage

FUZZ = Path(__file__).parent.parent / "fuzz"
MODULES = ("reading", "rings", "device_ring", "driver_ring", "blk_requests", "vhost_user")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    monkeypatch.syspath_prepend(str(FUZZ))
    yield importlib.import_module
    for name in MODULES:
        sys.modules.pop(name, None)


def inputs(module: ModuleType) -> list[bytes]:
    """Its seeds, and each once shortened and once with bytes changed."""
    dice = random.Random(1)
    made = list(module.seeds())
    for seed in module.seeds():
        made.append(seed[: dice.randrange(len(seed))])
        spoiled = bytearray(seed)
        for _ in range(3):
            spoiled[dice.randrange(len(spoiled))] = dice.randrange(256)
        made.append(bytes(spoiled))
    return made


@pytest.mark.parametrize("name", ["device_ring", "driver_ring"])
def test_rings(load: Callable[[str], ModuleType], name: str) -> None:
    module = load(name)
    for data in inputs(module):
        module.target(load("reading").Reader(data))


def test_blk_requests(load: Callable[[str], ModuleType], tmp_path: Path) -> None:
    module = load("blk_requests")
    benches = module.benches(str(tmp_path))
    try:
        for data in inputs(module):
            module.target(load("reading").Reader(data), benches)
    finally:
        for bench in benches:
            bench.close()


def test_vhost_user(load: Callable[[str], ModuleType]) -> None:
    module = load("vhost_user")
    with closing(Blk(MemoryStorage(module.SIZE))) as disk:
        for data in inputs(module):
            module.target(load("reading").Reader(data), disk)
