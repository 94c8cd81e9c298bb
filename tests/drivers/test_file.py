from __future__ import annotations

import io
import os
from collections.abc import Callable

import pytest
from loopback import SECTORS, Disk, Loopback, blk_config

from virtio.drivers import Blk
from virtio.spec import blk


@pytest.fixture
def model() -> Disk:
    return Disk()


@pytest.fixture
def disk(connect: Callable[..., Blk], model: Disk) -> Blk:
    return connect(Loopback(serve=model, config=blk_config()))


def test_any_offset_and_length(disk: Blk, model: Disk) -> None:
    with disk.open() as file:
        file.seek(500)
        assert file.write(b"across the border") == 17
        file.seek(-9, os.SEEK_CUR)
        assert file.read(6) == b"he bor"
    assert model.data[500:517] == b"across the border"
    assert model.data[:500] == bytes(500)
    assert model.seen[-1] == blk.T_FLUSH


def test_the_end_of_the_disk(disk: Blk) -> None:
    file = disk.open()
    assert file.seek(-10, os.SEEK_END) == SECTORS * 512 - 10
    assert file.write(b"x" * 20) == 10
    with pytest.raises(OSError, match="full"):
        file.write(b"x")
    assert file.read(1) == b""
    file.seek(-3, os.SEEK_END)
    assert file.read() == b"xxx"


def test_under_a_buffer(disk: Blk, model: Disk) -> None:
    with io.BufferedRandom(disk.open(), 65536) as file:
        for number in range(1000):
            file.write(b"%06d\n" % number)
    assert model.data[:7000] == b"".join(b"%06d\n" % number for number in range(1000))
    assert len(model.seen) < 10


def test_impossible_seeks(disk: Blk) -> None:
    with disk.open() as file:
        with pytest.raises(ValueError, match="before the start"):
            file.seek(-1)
        with pytest.raises(io.UnsupportedOperation):
            file.truncate(5)
