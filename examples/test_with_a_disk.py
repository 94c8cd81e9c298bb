"""Pytest fixtures: a device and its driver for each test, joined without a path and without a hypervisor."""

from collections.abc import Iterator

import pytest

from virtio.devices.blk import Blk
from virtio.drivers import Blk as BlkDriver
from virtio.errors import UnsupportedRequestError
from virtio.testing import loopback_socket


@pytest.fixture
def disk() -> Iterator[BlkDriver]:
    """An empty disk of 16 MiB."""
    with Blk("mem:16M") as device, loopback_socket(device) as sock, BlkDriver.connect(sock) as disk:
        yield disk


@pytest.fixture
def read_only_disk() -> Iterator[BlkDriver]:
    with (
        Blk("mem:16M", read_only=True) as device,
        loopback_socket(device) as sock,
        BlkDriver.connect(sock) as disk,
    ):
        yield disk


def test_what_is_written_is_read(disk: BlkDriver) -> None:
    disk.write(4096, b"content".ljust(512, b"\0"))
    assert disk.read(4096, 7 * 512).startswith(b"content")


def test_a_new_disk_is_empty(disk: BlkDriver) -> None:
    assert not any(disk.read(0, disk.capacity))


def test_a_read_only_disk_refuses_writes(read_only_disk: BlkDriver) -> None:
    with pytest.raises(UnsupportedRequestError, match="read-only"):
        read_only_disk.write(0, bytes(512))
