"""The entropy device in QEMU: one guest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from virtio import vm
from virtio.devices.entropy import Entropy
from virtio.errors import VirtioError
from virtio.serve import serving

pytestmark = pytest.mark.guest


@pytest.fixture(scope="module")
def guest(boot: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[vm.Guest]:
    socket = str(tmp_path_factory.mktemp("rng") / "s")
    reports: list[VirtioError] = []
    device = Entropy()
    with serving(device, socket, on_report=lambda _, error: reports.append(error)):
        with boot("qemu", [vm.Rng(socket)]) as guest:
            yield guest
        assert reports == []
    device.close()


def test_the_kernel_takes_it(guest: vm.Guest) -> None:
    assert guest.run("cat /sys/class/misc/hw_random/rng_current").stdout.startswith("virtio_rng.")


def test_what_it_gives_is_random(guest: vm.Guest) -> None:
    read = "dd if=/dev/hwrng bs=4096 count=16 iflag=fullblock 2>/dev/null"
    first, second = (guest.run(read, check=True).output for _ in range(2))
    assert len(first) == len(second) == 65536
    assert first != second
    ones = sum(byte.bit_count() for byte in first)
    assert abs(ones - 262144) < 2000  # eight standard deviations
    assert len(set(first)) == 256


def test_a_source_of_our_own(boot: Any, tmp_path: Path) -> None:
    source = tmp_path / "bytes"
    source.write_bytes(b"not random at all; " * 40000)
    device = Entropy(source)
    with serving(device, tmp_path / "s"), boot("qemu", [vm.Rng(str(tmp_path / "s"))]) as guest:
        read = guest.run("dd if=/dev/hwrng bs=64 count=4 iflag=fullblock 2>/dev/null", check=True)
        assert b"not random at all; not random" in read.output
    device.close()
